"""Coverage-guided fuzzing: ``python -m tests.fuzz TARGET|all --seconds N [--keep]`` (needs atheris).

Begins with the kept inputs. Says for each target how many inputs were given, and shows what was found; exit code 1
if anything was. ``--keep`` adds to ``tests/fuzz/corpus`` what goes another way through the parser than all before.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

LONGEST_INPUT = 1200
"""Octets; what takes more is found by test_growth.py."""

MOST_KEPT = 40
LONGEST_KEPT = 400
_WORD = 64
"""Octets that libFuzzer takes of a word in a dictionary."""

_RUNS = re.compile(r"Done (\d+) runs|^#(\d+)\s", re.MULTILINE)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--seconds", type=int, default=180, help="for each target (default: 180)")
    parser.add_argument("--keep", action="store_true", help="add to the kept inputs")
    asked = parser.parse_args()
    chosen = TARGETS.values() if asked.target == "all" else [TARGETS[asked.target]]
    found = [_fuzz(target, asked.seconds, asked.keep) for target in chosen]
    return int(any(found))


def _fuzz(target: Target, seconds: int, keep: bool) -> bool:
    """Whether anything was found."""
    with tempfile.TemporaryDirectory() as place:
        inputs = Path(place, "inputs")
        inputs.mkdir()
        for data in corpus.read(target.name) or [b"".join(target.pieces)]:
            (inputs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        words = Path(place, "words")
        words.write_text("".join(f'"{corpus.to_line(word)}"\n' for word in target.pieces if len(word) < _WORD))
        options = (f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=25", f"-dict={words}")
        said = _guided(target, *options, f"-artifact_prefix={place}/", inputs)
        runs = max((int(done or number) for done, number in _RUNS.findall(said)), default=0)
        found = [path for path in Path(place).iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
        print(f"{target.name:20} {runs:>12,} inputs {len(found)} found", flush=True)
        if found or not runs:
            print(said[said.find("=== Uncaught") :][:4000])
        for path in found:
            print(f"{path.name[:5]}: {corpus.to_line(path.read_bytes())}", flush=True)
        if keep and not found:
            merged = Path(place, "merged")
            merged.mkdir()
            _guided(target, "-merge=1", merged, inputs)
            ways = [path.read_bytes() for path in merged.iterdir() if path.stat().st_size <= LONGEST_KEPT]
            # Short ones take one turn, long ones many: some of each.
            ways.sort(key=len)
            print(f"{corpus.keep(target.name, ways[:: 1 + len(ways) // MOST_KEPT])} inputs are kept", flush=True)
        return bool(found) or not runs


def _guided(target: Target, *options: object) -> str:
    command = [sys.executable, "-m", "tests.fuzz.guided", target.name, *map(str, options)]
    # atheris ends without tidying up.
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "TMPDIR": directory}
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False)
    return run.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())

"""One program of ours run as a case says, for comparison with what the original did; see test_originals.py.

A case is a line of JSON, its texts latin-1: ``program``, ``argv``, ``env``, ``data`` (standard input), ``files`` of
the home with their ``modes``; then what came of it: ``code``, ``out``, ``queued`` (envelope and message that a
qmail-queue got, null if none), ``after`` (files of the home) and ``tree`` (mailboxes below the user's home ``u``).
Texts have ``{place}`` for the home's own path. Words for people on standard error are our own and not compared.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RECORDER = """#!/bin/sh
cat >"$REC/message"
cat <&1 >"$REC/envelope"
exit ${RECCODE-0}
"""

_CHANGING = (
    (re.compile(rb"\b\d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d -0000"), b"DATE"),
    (re.compile(rb"\b(\d{14}|\d{10})\.\d+"), b"TIME.PID"),
    (re.compile(rb"\d+:Kok \d+ qp \d+,"), b"NN:Kok TIME qp PID,"),
    (re.compile(rb"\bqp \d+"), b"qp PID"),
    (re.compile(rb"^From (\S*) \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", re.MULTILINE), rb"From \1 DATE"),
)
"""What differs from run to run."""

Case = Mapping[str, Any]


def cases(path: Path) -> Iterator[Case]:
    with open(path, encoding="ascii") as lines:
        yield from map(json.loads, lines)


def steady(text: bytes, place: Path) -> str:
    """The text without what differs from run to run, as JSON holds it."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text.replace(os.fsencode(place), b"{place}").decode("latin-1")


def set_up(case: Case, place: Path) -> None:
    """Make the files that a case begins with, and for qmail-local the user's home with two Maildirs."""
    if "tree" in case:
        for maildir in ("Maildir", "Maildir2"):
            for part in ("new", "cur", "tmp"):
                (place / "u" / maildir / part).mkdir(parents=True)
        (place / "u" / "sub").mkdir()
    for name, text in case.get("files", {}).items():
        (place / name).write_bytes(text.encode("latin-1"))
    for name, mode in case.get("modes", {}).items():
        (place / name).chmod(mode)


def came_of(case: Case, place: Path, run: Callable[[Case, Path], tuple[int, bytes]] | None = None) -> dict[str, Any]:
    """Run the case's program in the home ``place``; what came of it, as the case says it."""
    set_up(case, place)
    code, out = (run or run_ours)(case, place)
    queued = finished([_taken(place / name, place) for name in ("envelope", "message")])
    result: dict[str, Any] = {"code": code, "out": steady(out, place), "queued": queued}
    if "after" in case:
        result["after"] = {name: _taken(place / name, place) for name in case["after"]}
    if "tree" in case:
        result["tree"] = _tree(place)
        shutil.rmtree(place / "u")
    for name in case.get("files", {}):
        (place / name).unlink(missing_ok=True)
    return result


def _tree(place: Path) -> dict[str, list[str]]:
    """What is in the mailboxes: each file's mode and text, by path; names in Maildirs are as good as any other."""
    found: dict[str, list[str]] = {}
    for path in (place / "u").rglob("*"):
        if path.is_file() and not path.name.startswith(".qmail"):
            name = path.parent.name if path.parent.name in ("new", "tmp") else path.name
            kept = found.setdefault(f"{path.parent.relative_to(place)}/{name}", [])
            kept.append(f"{path.stat().st_mode & 0o7777:o} {steady(path.read_bytes(), place)}")
    return {name: sorted(kept) for name, kept in sorted(found.items())}


def finished(queued: list[str | None]) -> list[str | None]:
    """Nothing, if the envelope was cut off: then qmail-queue queues nothing."""
    return queued if (queued[0] or "").endswith("\0\0") else [None, None]


def _taken(path: Path, place: Path) -> str | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    path.unlink()
    return steady(text, place)


def process(case: Case, place: Path) -> tuple[list[bytes], dict[bytes, bytes]]:
    """A case's arguments and environment."""
    environment = {"PATH": os.environ["PATH"], "TZ": "UTC0", "REC": str(place), "QMAILQUEUE": "{place}/recorder"}

    def octets(text: str) -> bytes:
        return text.replace("{place}", str(place)).encode("latin-1")

    return [octets(each) for each in case["argv"]], {
        octets(name): octets(value) for name, value in (environment | case["env"]).items()
    }


def run_ours(case: Case, place: Path) -> tuple[int, bytes]:
    program = importlib.import_module("ekiden.programs." + case["program"].replace("-", "_"))
    argv, environment = process(case, place)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        given.write(case["data"].encode("latin-1"))
        given.seek(0)
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                for file, descriptor in ((given, 0), (out, 1), (error, 2)):
                    os.dup2(file.fileno(), descriptor)
                os._exit(_main(program, argv, environment, place))
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        return code, out.read()


def _main(program: Any, argv: Sequence[bytes], environment: Mapping[bytes, bytes], place: Path) -> int:
    os.environb.clear()
    os.environb.update(environment)
    sys.stdin, sys.stdout, sys.stderr = (open(at, mode, closefd=False) for at, mode in enumerate("rww"))  # noqa: SIM115
    code: int = program.main([os.fsdecode(each) for each in argv], str(place))
    sys.stdout.flush()
    return code

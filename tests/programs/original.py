"""One program of ours run as a case says, for comparison with what the original did; see test_originals.py.

A case is a line of JSON, its texts latin-1: ``program``, ``argv``, ``env``, ``data`` (standard input), ``files`` (of
the home, before); then what came of it: ``code``, ``out``, ``queued`` (envelope and message that a qmail-queue got,
null if none) and ``after`` (files of the home). Words for people on standard error are our own and not compared.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
)
"""What differs from run to run."""

Case = Mapping[str, Any]


def cases(path: Path) -> Iterator[Case]:
    with open(path, encoding="ascii") as lines:
        yield from map(json.loads, lines)


def steady(text: bytes) -> str:
    """The text without what differs from run to run, as JSON holds it."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text.decode("latin-1")


def came_of(case: Case, place: Path) -> dict[str, Any]:
    """Run the case's program in the home ``place``; what came of it, as the case says it."""
    for name, text in case.get("files", {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(text.encode("latin-1"))
    code, out = _run(case, place)
    queued = finished([_taken(place / name) for name in ("envelope", "message")])
    after = {name: _taken(place / name) for name in case.get("after", {})}
    for name in case.get("files", {}):
        (place / name).unlink(missing_ok=True)
    return {"code": code, "out": steady(out), "queued": queued} | ({"after": after} if after else {})


def finished(queued: list[str | None]) -> list[str | None]:
    """Nothing, if the envelope was cut off: then qmail-queue queues nothing."""
    return queued if (queued[0] or "").endswith("\0\0") else [None, None]


def _taken(path: Path) -> str | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    path.unlink()
    return steady(text)


def _run(case: Case, place: Path) -> tuple[int, bytes]:
    program = importlib.import_module("ekiden.programs." + case["program"].replace("-", "_"))
    environment = {"PATH": os.environ["PATH"], "TZ": "UTC0", "REC": str(place)} | case["env"]
    environment.setdefault("QMAILQUEUE", str(place / "recorder"))
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        given.write(case["data"].encode("latin-1"))
        given.seek(0)
        process = os.fork()
        if not process:
            with contextlib.suppress(BaseException):
                for file, descriptor in ((given, 0), (out, 1), (error, 2)):
                    os.dup2(file.fileno(), descriptor)
                os._exit(_main(program, case["argv"], environment, place))
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        out.seek(0)
        return code, out.read()


def _main(program: Any, argv: Sequence[str], environment: Mapping[str, str], place: Path) -> int:
    os.environb.clear()
    os.environb.update({key.encode("latin-1"): value.encode("latin-1") for key, value in environment.items()})
    sys.stdin, sys.stdout, sys.stderr = (open(at, mode, closefd=False) for at, mode in enumerate("rww"))  # noqa: SIM115
    code: int = program.main([os.fsdecode(each.encode("latin-1")) for each in argv], place)
    sys.stdout.flush()
    return code

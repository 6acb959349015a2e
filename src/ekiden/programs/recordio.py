"""recordio PROGRAM [ARG ...]: write down what a program reads and writes (recordio.1).

Becomes the program; a child of its passes the octets on and writes lines to descriptor 2: the program's process
number, ``<`` or ``>``, and what was sent. Exit code 100 for wrong use, 111 if the program cannot be run.
"""

from __future__ import annotations

import contextlib
import os
import sys

from ekiden.runtime.ucspi.between import stand_between

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PACKET = 256
"""Octets that one line tells of, so that it is written in one piece."""


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the program and its arguments."""
    if not argv:
        print("recordio: usage: recordio program [ arg ... ]", file=sys.stderr)
        return 100
    return stand_between("recordio", argv, _recorder(b"<"), _recorder(b">"))


def _recorder(sign: bytes) -> Callable[[bytes], bytes]:
    front = b"%d %b " % (os.getpid(), sign)

    def record(piece: bytes) -> bytes:
        if not piece:
            _write(front + b"[EOF]\n")
        for start in range(0, len(piece), _PACKET):
            *whole, partial = piece[start : start + _PACKET].split(b"\n")
            for line in whole:
                _write(front + line + b" \n")
            if partial:
                _write(front + partial + b"+\n")
        return piece

    return record


def _write(line: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, line)

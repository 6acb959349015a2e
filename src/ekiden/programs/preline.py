"""preline [-frdFRD] COMMAND [ARG ...]: the message with From_, Return-Path and Delivered-To lines (preline(1)).

The lines come from UFLINE, RPLINE and DTLINE (qmail-command(8)). The exit code is the command's; 100 for wrong use or
a command that does not exist, 111 if it crashed or something else went wrong.
"""

from __future__ import annotations

import os
import sys

from ekiden.delivery.report import is_temporary
from ekiden.runtime.classic.child import Crashed, feed
from ekiden.runtime.classic.options import BadOption, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LINES = {"f": b"UFLINE", "r": b"RPLINE", "d": b"DTLINE"}


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and the command; a small letter leaves a line out, its capital puts it in again."""
    wanted = dict.fromkeys(_LINES, True)
    try:
        found, command = options(argv, "frdFRD")
    except BadOption:
        return _usage()
    for letter, _value in found:
        wanted[letter.lower()] = letter.isupper()
    if not command or any(name not in os.environb for name in _LINES.values()):
        return _usage()
    first = b"".join(os.environb[name] for letter, name in _LINES.items() if wanted[letter])
    try:
        return feed(command, first)
    except Crashed:
        print("preline: fatal: child crashed", file=sys.stderr)
    except OSError as error:
        print(f"preline: fatal: unable to run {command[0]}: {error.strerror}", file=sys.stderr)
        return 111 if is_temporary(error) else 100
    return 111


def _usage() -> int:
    print("preline: usage: preline cmd [ arg ... ]", file=sys.stderr)
    return 100

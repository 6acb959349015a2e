"""What dot-forward and fastforward do with the message on descriptor 0: commands that get it, and sending it on.

Descriptor 0 must be seekable, as a .qmail command's is (qmail-command(8)).
"""

from __future__ import annotations

import os
import sys

from ekiden.runtime.classic.child import Crashed, feed, run
from ekiden.runtime.classic.passing import pass_on
from ekiden.runtime.injection.door import Letter, NotQueued

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HARD = frozenset({100, 64, 65, 70, 76, 77, 78, 112})
"""Exit codes that mean permanent failure (qmail-command(8))."""


class Stop(Exception):
    """The delivery ends with exit code ``code``; the text, if any, says why."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


def front() -> bytes:
    """The From_, Return-Path and Delivered-To lines, as far as the environment has them."""
    return b"".join(os.environb.get(name, b"") for name in (b"UFLINE", b"RPLINE", b"DTLINE"))


def run_command(command: bytes, with_front: bool) -> None:
    """Give the message to ``sh -c command``, if asked to with those lines in front; raises Stop if that fails."""
    argv = ["sh", "-c", os.fsdecode(command)]
    rewind()
    try:
        code = feed(argv, front()) if with_front else run(argv)
    except Crashed:
        raise Stop(111, f"child crashed in {argv[2]}") from None
    except OSError as error:
        raise Stop(111, f"unable to run {argv[2]}: {error.strerror}") from None
    if code:
        raise Stop(100 if code in HARD else 111)


def send_on(home: str, sender: bytes, recipients: Sequence[bytes]) -> int:
    """Queue the message with the Delivered-To line in front; ``qp`` for the log. Raises Stop."""
    rewind()
    try:
        return pass_on(home, Letter(sender, recipients), os.environb.get(b"DTLINE", b""))
    except NotQueued as error:
        raise Stop(100 if error.permanent else 111, f"unable to forward message: {error}") from None
    except OSError as error:
        raise Stop(111, f"unable to read message: {error.strerror}") from None


def rewind() -> None:
    """Raises Stop if descriptor 0 cannot seek."""
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as error:
        raise Stop(111, f"unable to rewind the message: {error.strerror}") from None


def say(name: str, stop: Stop) -> int:
    """Print why it stopped; the exit code."""
    if str(stop):
        print(f"{name}: fatal: {stop}", file=sys.stderr)
    return stop.code


def printable(text: bytes) -> str:
    """For people: control characters as underscores."""
    return "".join(each if each.isprintable() else "_" for each in text.decode("utf-8", "backslashreplace"))

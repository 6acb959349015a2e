"""splogger [tag [facility]]: lines of standard input become entries of syslog (splogger(8)).

Exit code 0 at the end of input, 100 for arguments that cannot be meant. Entries that syslog does not take are lost,
as syslog(3) has it: whatever writes to our input must not be kept waiting.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from ekiden.runtime.syslog import FOLD, INFO, MAIL, Syslog, fold, priority

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = 65_536
_PRINTABLE = bytes(c if 32 <= c <= 126 or c == 10 else ord("?") for c in range(256))


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the tag (splogger) and the facility's number (2, mail), both optional; more mean nothing."""
    facility = argv[1] if len(argv) > 1 else str(MAIL)
    if not facility.isdecimal() or len(facility) > 3 or int(facility) > 127:
        print("splogger: usage: splogger [tag [facility]]; facility is a number up to 127", file=sys.stderr)
        return 100
    lines = Lines(Syslog(os.fsencode(argv[0]) if argv else b"splogger", int(facility)))
    while data := os.read(0, _READ):
        lines.feed(data)
    lines.feed(b"\n")
    return 0


class Lines:
    """Makes entries of text that comes in pieces; of a long line as soon as an entry is full."""

    def __init__(self, syslog: Syslog) -> None:
        self._syslog = syslog
        self._rest = b""
        self._stamp = b""
        self._level = INFO

    def feed(self, data: bytes) -> None:
        """Take the next octets of input."""
        *whole, rest = (self._rest + data.translate(_PRINTABLE)).split(b"\n")
        for line in whole:
            self._enter(line)
            self._stamp = b""
        full = len(rest) - len(rest) % FOLD
        self._enter(rest[:full])
        self._rest = rest[full:]

    def _enter(self, text: bytes) -> None:
        if not text:
            return
        continued = bool(self._stamp)
        if not continued:
            self._stamp = b"%.6f" % time.time()
            self._level = priority(text)
        for entry in fold(self._stamp, text, continued):
            with contextlib.suppress(OSError):
                self._syslog.send(self._level, entry, time.time())

"""predate child: run ``child`` with our standard input, a ``Date`` field in front of it.

The date is in the host's zone. datemail is ``predate sendmail``, for mail programs that write no date of their own.
The exit code is the child's; 100 without a child, 111 if it cannot be run or crashed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ekiden.base.dates import local_date

_READ = 65_536


def main(argv: Sequence[str], home: Path) -> int:
    """``argv`` is the child and its arguments."""
    if not argv:
        print("predate: usage: predate child", file=sys.stderr)
        return 100
    reading, writing = os.pipe()
    try:
        onto_input = [(os.POSIX_SPAWN_DUP2, reading, 0)]
        # Python ignores SIGPIPE; programs expect it.
        child = os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=onto_input, setsigdef=[signal.SIGPIPE])
    except OSError as error:
        print(f"predate: fatal: unable to run {argv[0]}: {error.strerror}", file=sys.stderr)
        return 111
    os.close(reading)
    _copy(writing)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        print("predate: fatal: child crashed", file=sys.stderr)
        return 111
    return code


def _copy(writing: int) -> None:
    """Date and input to the child, until either ends; a child that stops reading may have what it needs."""
    data = b"Date: %b\n" % local_date(time.time())
    try:
        while data:
            data = data[os.write(writing, data) :] or os.read(0, _READ)
    except BrokenPipeError:
        pass
    os.close(writing)

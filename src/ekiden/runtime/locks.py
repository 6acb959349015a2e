"""A home's two locks: who serves it (``run/lock``), and who has its queue open (``queue/lock``).

Both are flock's, held as long as the descriptor is open. Commands that look whether ekiden runs share the first for a
moment, programs that inject while it does not hold the second.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_ENDING = 0.5
"""Seconds for which whoever serves the home may be about to end."""

_LOOKED_AT = 30.0
"""Seconds for which ``run/lock`` may be shared by those who only look, one after the other."""

_PAUSE = 0.01


def hold_home(home: Path) -> int:
    """The lock of whoever serves the home, with its process id in it; BlockingIOError if somebody does already."""
    held = os.open(home / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _wait(held, _ENDING, _LOOKED_AT)
    # Whoever can open it could hold the lock, and keep us from ever starting again.
    os.fchmod(held, 0o600)
    os.ftruncate(held, 0)
    os.pwrite(held, b"%d\n" % os.getpid(), 0)
    return held


def hold_queue(directory: Path, seconds: float) -> int:
    """The queue's lock; BlockingIOError if another has it for ``seconds`` and longer. Root leaves it to the owner."""
    held = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(held, owner.st_uid, owner.st_gid)
    _wait(held, seconds)
    return held


def _wait(descriptor: int, seconds: float, shared: float = 0.0) -> None:
    """Lock it, or close it and raise BlockingIOError when it was held so long, or shared so long."""
    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - begun
            if waited > seconds and not (waited < shared and _is_shared(descriptor)):
                os.close(descriptor)
                raise
        time.sleep(_PAUSE)


def _is_shared(descriptor: int) -> bool:
    """Whether those who hold the lock share it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def holder(home: Path) -> int:
    """The process id of whoever serves the home, 0 if nobody does. OSError if the lock may not be looked at."""
    try:
        descriptor = os.open(home / "run" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0) or b"0")
    finally:
        os.close(descriptor)
    return 0

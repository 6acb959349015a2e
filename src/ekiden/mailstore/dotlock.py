"""The locks of mbox files, all that are in use: ``FILE.lock``, fcntl's and flock's.

They are held for the moment in which a file is scanned or changed, in the order in which other programs take them.
Where we may not make ``FILE.lock`` (a spool directory that belongs to root), the other two have to do.
"""

from __future__ import annotations

import contextlib
import errno
import time

from ekiden.delivery.mbox_lock import LockFile, release, take
from ekiden.mailstore.maildrop import MailboxError, temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_SECONDS = 10.0
"""How long to wait for another program's lock before the client is told to come back."""

_STEP = 0.05


def busy() -> MailboxError:
    """Another program has the mailbox."""
    return MailboxError("the mailbox is locked by another program", "IN-USE")


@contextlib.contextmanager
def locked(path: bytes, descriptor: int) -> Iterator[None]:
    """Hold all locks on an open file. Raises MailboxError."""
    deadline = time.monotonic() + WAIT_SECONDS
    lock_file = LockFile(path + b".lock")
    _make(lock_file, deadline)
    try:
        _take(descriptor, deadline)
        yield
    finally:
        release(descriptor)
        lock_file.release()


def _make(lock_file: LockFile, deadline: float) -> None:
    """Make the lock file, where we may."""
    try:
        while not lock_file.take():
            _wait(deadline)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise temporary(f"unable to lock the mailbox: {error.strerror}") from None


def _take(descriptor: int, deadline: float) -> None:
    try:
        while not take(descriptor):
            _wait(deadline)
    except OSError as error:
        raise temporary(f"unable to lock the mailbox: {error.strerror}") from None


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise busy()
    time.sleep(_STEP)

"""The locks of mbox files, all that are in use: ``FILE.lock``, fcntl's and flock's.

They are held for the moment in which a file is scanned or changed, in the order in which other programs take them.
Where we may not make ``FILE.lock`` (a spool directory that belongs to root), the other two have to do.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from ekiden.mailstore.maildrop import MailboxError, temporary

WAIT_SECONDS = 10.0
"""How long to wait for another program's lock before the client is told to come back."""

STALE_SECONDS = 300.0
"""Age at which a lock file is held to be left over by a program that died."""

_STEP = 0.05


def busy() -> MailboxError:
    """Another program has the mailbox."""
    return MailboxError("the mailbox is locked by another program", "IN-USE")


@contextlib.contextmanager
def locked(path: bytes, descriptor: int) -> Iterator[None]:
    """Hold all locks on an open file. Raises MailboxError."""
    deadline = time.monotonic() + WAIT_SECONDS
    own = _make(path + b".lock", deadline)
    try:
        _take(descriptor, deadline)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        if own:
            with contextlib.suppress(OSError):
                os.unlink(path + b".lock")


def _make(lock: bytes, deadline: float) -> bool:
    """Make the lock file; whether there is one of ours now."""
    while True:
        try:
            descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            _remove_stale(lock)
            if time.monotonic() > deadline:
                raise busy() from None
            time.sleep(_STEP)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return False
            raise temporary(f"unable to lock the mailbox: {error.strerror}") from None
        else:
            os.write(descriptor, b"%d\n" % os.getpid())
            os.close(descriptor)
            return True


def _remove_stale(lock: bytes) -> None:
    with contextlib.suppress(OSError):
        if os.lstat(lock).st_mtime + STALE_SECONDS < time.time():
            os.unlink(lock)


def _take(descriptor: int, deadline: float) -> None:
    for take in (fcntl.lockf, fcntl.flock):
        while True:
            try:
                take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in (errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP):
                    # This file system has no such lock; the others have to do.
                    break
                if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                    raise temporary(f"unable to lock the mailbox: {error.strerror}") from None
            if time.monotonic() > deadline:
                raise busy()
            time.sleep(_STEP)

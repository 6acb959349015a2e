"""The locks of mbox files, all that are in use: ``FILE.lock``, fcntl's and flock's.

qmail-local takes flock's, mail readers the others, so that a message is only safe from all of them under all three.
Nothing here waits.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

STALE_SECONDS = 300.0
"""Age at which another program's lock file is held to be left over."""

_OURS = b" ekiden\n"
"""Ends a lock file of ours, behind the process id. As long as its maker lives, the file itself has flock's lock."""

_NONE_HERE = frozenset({errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_BUSY = frozenset({errno.EAGAIN, errno.EACCES, errno.EINTR})


class LockFile:
    """``FILE.lock`` at ``path``."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> bool:
        """Make the file; False if there is one. One that was left over is removed. OSError if it cannot be made."""
        # Under another name first: killed before it is written and locked, it would be taken for another program's.
        made = b"%b.%d" % (self._path, os.getpid())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
        descriptor = _make(made)
        try:
            os.link(made, self._path)
        except FileExistsError:
            os.close(descriptor)
            self._remove_left_over()
            return False
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_LINKS:
                raise
            return self._take_without_links()
        finally:
            # If it stays, it is ours to remove next time; the mailbox would stay locked if this were an error.
            with contextlib.suppress(OSError):
                os.unlink(made)
        self._descriptor = descriptor
        return True

    def _take_without_links(self) -> bool:
        try:
            self._descriptor = _make(self._path)
        except FileExistsError:
            self._remove_left_over()
            return False
        return True

    def release(self) -> None:
        """Remove the file if it is ours."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = -1

    def _remove_left_over(self) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if _is_left_over(descriptor) and os.path.samestat(os.fstat(descriptor), os.lstat(self._path)):
                    os.unlink(self._path)
            finally:
                os.close(descriptor)


def _make(path: bytes) -> int:
    """A lock file of ours, locked and open. OSError if it cannot be made."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, b"%d%b" % (os.getpid(), _OURS))
    return descriptor


def _is_left_over(descriptor: int) -> bool:
    if os.fstat(descriptor).st_mtime + STALE_SECONDS < time.time():
        return True
    if not os.read(descriptor, 64).endswith(_OURS):
        return False
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def take(descriptor: int) -> bool:
    """Take the kernel's two locks; False if another program has one. What the file system lacks is left out."""
    for lock in (fcntl.lockf, fcntl.flock):
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NONE_HERE:
                continue
            release(descriptor)
            if error.errno in _BUSY:
                return False
            raise
    return True


def release(descriptor: int) -> None:
    """Give back what ``take`` took."""
    for lock in (fcntl.flock, fcntl.lockf):
        with contextlib.suppress(OSError):
            lock(descriptor, fcntl.LOCK_UN)

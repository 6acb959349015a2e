"""Delivery into an mbox file: locked, appended, synchronised, and cut back if that fails (mbox(5), dot-qmail(5)).

Several messages can be appended under one lock and made durable together. qmail-local takes flock's lock only; the
others keep readers away that know nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from ekiden.delivery.content import write_all
from ekiden.delivery.maildir import sync_directory
from ekiden.delivery.mbox_lock import LockFile, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOCK_SECONDS = 30.0
"""How long a delivery waits for the lock."""

LOCK_PAUSE = 0.1
"""Seconds between two attempts at it."""


class LeftOver(OSError):
    """Appending failed, and so did cutting the file back: a part of what was written is still there."""


class Mbox:
    """An mbox file open for appending. ``lock`` first, then ``append`` any number of times, then ``commit``."""

    def __init__(self, path: bytes) -> None:
        """Open, creating it readable by its owner only; OSError if that cannot be done."""
        self._path = path
        self._descriptor = _open(path)
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._lock_file = LockFile(path + b".lock")
        self._locked = False
        self._start = 0
        # Whether a message of ours is not what the file ends with.
        self._ragged = True

    def lock(self) -> bool:
        """Try to lock; False if somebody else has a lock, or replaced the file meanwhile.

        Where no lock can be had (a device, a directory or a file system that allows none), delivery goes on without,
        and nothing is cut back on failure.
        """
        if not self._regular:
            return True
        # Often the directory is another user's, and the kernel's locks have to do.
        with contextlib.suppress(OSError):
            if not self._lock_file.take():
                return False
        with contextlib.suppress(OSError):
            self._locked = take(self._descriptor)
            if not self._locked:
                return False
        status = os.fstat(self._descriptor)
        self._start = status.st_size
        # A reader that rewrites the file under the lock leaves us with one that nobody will look at.
        return status.st_nlink > 0

    def append(self, front: bytes, chunks: Iterable[bytes]) -> None:
        """Append one message; ``front`` is the From_ line and the fields before the content.

        After an OSError nothing of this message is left, unless it is LeftOver, and others can be appended.
        """
        start = os.fstat(self._descriptor).st_size
        try:
            write_all(self._descriptor, (self._gap(start) if self._ragged else b"") + front)
            for chunk in entry(chunks):
                write_all(self._descriptor, chunk)
        except OSError as error:
            self._cut(start, error)
            raise
        except BaseException:
            with contextlib.suppress(LeftOver):
                self._cut(start, OSError())
            raise
        self._ragged = False

    def _gap(self, end: int) -> bytes:
        """What makes the next From_ line one: what a crash or another writer left may not end with a blank line."""
        try:
            tail = os.pread(self._descriptor, 2, max(0, end - 2)) if end else b"\n\n"
        except OSError:
            return b""
        return b"\n" * (2 - len(tail) + len(tail.rstrip(b"\n")))

    def commit(self) -> None:
        """Make everything durable; after an OSError nothing of what was appended is left, unless it is LeftOver."""
        if not self._regular:
            return
        try:
            os.fsync(self._descriptor)
            if not self._start:
                sync_directory(os.path.dirname(self._path) or b".")
        except OSError as error:
            self._cut(self._start, error)
            raise

    def close(self) -> None:
        """Release the locks."""
        os.close(self._descriptor)
        self._lock_file.release()

    def _cut(self, size: int, error: OSError) -> None:
        """Raises LeftOver, with what is in ``error``, which led here, if the file stays longer than ``size``."""
        if not self._regular:
            return
        with contextlib.suppress(OSError):
            if self._locked:
                os.ftruncate(self._descriptor, size)
        if os.fstat(self._descriptor).st_size > size:
            self._ragged = True
            raise LeftOver(error.errno, error.strerror) from error


def _open(path: bytes) -> int:
    """For reading too, if it is a file that may be read: what it ends with is to be seen."""
    flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(PermissionError):
        if not os.path.exists(path) or os.path.isfile(path):
            return os.open(path, flags | os.O_RDWR, 0o600)
    return os.open(path, flags | os.O_WRONLY, 0o600)


def entry(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content as it stands in an mbox file: From_ lines quoted, a blank line at the end."""
    last = b"\n"
    for chunk in _quoted(chunks):
        yield chunk
        last = chunk[-1:]
    yield b"\n" if last == b"\n" else b"\n\n"


def _quoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put one more ``>`` into every line that is ``From `` after any number of ``>``; gives no empty pieces."""
    only_marks, held = True, b""
    for chunk in chunks:
        data = held + chunk
        end = data.rfind(b"\n") + 1
        rest = data[end:].lstrip(b">") if end or only_marks else b"x"
        # What may yet become ``From `` waits for the next piece; the marks before it need not, since the additional
        # one may stand behind them.
        held = rest if b"From ".startswith(rest) else b""
        data = data[: len(data) - len(held)]
        if data:
            yield _quote_lines(data, only_marks)
        only_marks = held == rest
    if held:
        yield _quote_lines(held, only_marks)


def _quote_lines(data: bytes, at_line_start: bool) -> bytes:
    if b"From " not in data:
        return data
    import re

    first, newline, rest = (b"", b"", data) if at_line_start else data.partition(b"\n")
    return first + newline + re.sub(rb"(?m)^(>*)(?=From )", rb"\1>", rest)

"""Delivery into a Maildir: written and synchronised in tmp/, then moved to new/ (maildir(5)).

Several messages are made durable together: the kernel is told to start writing all files, then each is waited for,
so that one journal commit serves many. A message is delivered when its file and the directory new/ are on disk; what
a crash leaves before that is a file in tmp/, which is removed after 36 hours.
"""

from __future__ import annotations

import os
import time
from itertools import count

from ekiden.delivery.content import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STALE = 36 * 3600
"""Seconds after which a file in tmp/ that nobody touched is an abandoned delivery's."""

_numbers: Iterator[int] = count(1)


class Draft:
    """A message in tmp/, written but not durable. ``error`` says why it will not be delivered, if so."""

    __slots__ = ("_descriptor", "error", "final", "octets", "temporary")

    def __init__(self, maildir: bytes, chunks: Iterable[bytes]) -> None:
        """Write the message; raises OSError, and leaves nothing, if that cannot be done."""
        name = unique_name()
        self.temporary = os.path.join(maildir, b"tmp", name)
        self.final = os.path.join(maildir, b"new", name)
        self.error: OSError | None = None
        self.octets = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self.temporary, flags, 0o600)
        try:
            for chunk in chunks:
                write_all(self._descriptor, chunk)
                self.octets += len(chunk)
        except BaseException:
            self.abandon()
            raise

    def tell_size(self) -> None:
        """Have the size in the name that the message will have, so that counting needs not ask for it (Maildir++)."""
        self.final += b",S=%d" % self.octets

    def hurry(self) -> None:
        """Have the kernel start writing, so that waiting for one file does not delay the next."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def synchronise(self) -> None:
        """Wait until the file is durable; on failure ``error`` is set and the file is gone."""
        descriptor, self._descriptor = self._descriptor, -1
        try:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.error = error
            self.abandon()

    def publish(self) -> None:
        """Move the durable file to new/; on failure ``error`` is set and the file is gone."""
        try:
            os.rename(self.temporary, self.final)
        except OSError as error:
            self.error = error
            self.abandon()

    def abandon(self) -> None:
        """Remove the file, wherever it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        for path in (self.temporary, self.final):
            try:
                os.unlink(path)
            except OSError:
                # What stays in tmp/ is removed later; what was never there need not be.
                continue


def settle(drafts: Sequence[Draft]) -> None:
    """Publish drafts and make their directories durable; each draft's ``error`` says how it went."""
    if len(drafts) > 1:
        for draft in drafts:
            draft.hurry()
    # Names change only when all are durable: a change between two waits would need a journal commit of its own.
    for draft in drafts:
        draft.synchronise()
    directories: dict[bytes, list[Draft]] = {}
    for draft in drafts:
        if draft.error is None:
            draft.publish()
        if draft.error is None:
            directories.setdefault(os.path.dirname(draft.final), []).append(draft)
    for directory, published in directories.items():
        try:
            sync_directory(directory)
        except OSError as error:
            for draft in published:
                draft.error = error
                draft.abandon()


def sync_directory(path: bytes) -> None:
    """Make a directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unique_name() -> bytes:
    """A name that no other delivery has, here or elsewhere: time, microseconds, process, count, chance, host.

    Chance makes names unique even where the clock is set back and process ids come again. The form is the one at
    cr.yp.to/proto/maildir.html; up to 33 octets and the host's name.
    """
    now = time.time_ns()
    return b"%d.M%dP%dQ%dR%b.%b" % (
        now // 1_000_000_000,
        now // 1000 % 1_000_000,
        os.getpid(),
        next(_numbers) % 10_000,
        os.urandom(4).hex().encode(),
        host_name(),
    )


def host_name() -> bytes:
    """This host's name with the characters replaced that cannot stand in a file name."""
    return os.fsencode(os.uname().nodename).replace(b"/", b"\\057").replace(b":", b"\\072")


def clean(maildir: bytes, now: float) -> int:
    """Remove abandoned files from tmp/; how many were removed. Never raises for the file system's sake."""
    removed = 0
    try:
        with os.scandir(os.path.join(maildir, b"tmp")) as entries:
            for entry in entries:
                if not entry.name.startswith(b".") and _is_stale(entry, now):
                    os.unlink(entry.path)
                    removed += 1
    except OSError:
        return removed
    return removed


def _is_stale(entry: os.DirEntry[bytes], now: float) -> bool:
    status = entry.stat(follow_symlinks=False)
    return max(status.st_atime, status.st_mtime) + STALE < now

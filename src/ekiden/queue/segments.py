"""Contents that are large for a row and small for a file of their own: many in one file, a segment.

SQLite writes a row of 100 KiB as 25 pages into its log, each with a checksum, and later once more into its file; a
file of one's own is made, synced and removed. A segment costs one write a content and one sync a transaction, and is
written over when all that it held has left the queue, so that the device's room need not be found anew.

The order that makes this safe: what is ``place``d is written and synced before the transaction that names it is
committed (then ``keep``); what a transaction removes is given back when that is durable (``give_back``), and nothing
is written over before. So a crash leaves at most octets that no row names. A segment is *lasting* when something
stays in it (mail that waits for a next hop) or when it was there at start: nothing more is added to it, and what
leaves it is punched out of the file at once, so that mail that waits holds no more room than it needs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ekiden.queue.sqlite_file import sync
from ekiden.queue.store import StoreFailed, StoreFull

LEAST = 32 * 1024
"""Octets; a smaller content costs less in its row."""

_SIZE = 16 * 1024 * 1024
_SHARE = 16
"""A segment takes at most about this part of the device."""
_SPARES = 2
_SEALED = 4
"""Full ones that are waited for to be empty, before what is in them is taken for mail that stays."""
_BLOCK = 4096
"""Contents begin at multiples of this, so that what was punched out gives back whole blocks."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

Place = tuple[int, int]
"""Where a content is: its segment's number, and the offset in octets."""

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


class Segment:
    """One file. ``live``: how many contents in it are in the queue; ``end``: what is written so far, in octets."""

    __slots__ = ("descriptor", "end", "live", "number")

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.end = 0
        self.live = 0


class Segments:
    """All of ``directory``, made when absent. ``StoreFull`` or ``StoreFailed`` where nothing can be written."""

    def __init__(self, directory: Path, size: int = 0) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        statistics = os.statvfs(directory)
        self._size = size or min(_SIZE, statistics.f_blocks * statistics.f_frsize // _SHARE)
        self._last = max(self.numbers(), default=0)
        self._active: Segment | None = None
        self._sealed: list[Segment] = []
        """Full ones that may yet be empty soon."""
        self._spares: list[Segment] = []
        self._where: dict[int, tuple[Segment, int, int]] = {}
        """Segment, offset and size of contents in segments that are not lasting, by message."""
        self._lasting: dict[int, int] = {}
        """How many contents are in each lasting segment."""
        self._lasting_until = -1
        """Above this id no message's content is in a lasting segment."""

    def numbers(self) -> list[int]:
        """The segments that there are."""
        return [int(name) for name in os.listdir(self._descriptor) if name.isdecimal()]

    def recover(self, named: Iterable[tuple[int, int, int]]) -> int:
        """At start: every segment that rows name, how many do, and the highest id. The others go; how many did."""
        for number, live, last in named:
            self._lasting[number] = live
            self._lasting_until = max(self._lasting_until, last)
        leftovers = [number for number in self.numbers() if number not in self._lasting]
        for number in leftovers:
            self._unlink(number)
        return len(leftovers)

    def close(self) -> None:
        """Leave what rows name, and nothing else."""
        self.drop_empty()
        for segment in (*self._sealed, self._active):
            if segment is not None:
                self._make_lasting(segment)
        os.close(self._descriptor)

    # What comes

    def place(self, contents: Sequence[bytes]) -> list[Place]:
        """Write these durably, for the transaction that is being made."""
        self._settle()
        if self._active is not None and not self._active.live:
            self._active.end = 0
        try:
            return self._write(contents)
        except StoreFull:
            if not self.drop_empty():
                raise
        return self._write(contents)

    def _write(self, contents: Sequence[bytes]) -> list[Place]:
        places: list[Place] = []
        written: dict[int, Segment] = {}
        try:
            for content in contents:
                segment = self._with_room_for(len(content))
                places.append((segment.number, segment.end))
                _append(segment, content)
                written[segment.number] = segment
            for segment in written.values():
                os.fdatasync(segment.descriptor)
        except OSError as error:
            failure = StoreFull if error.errno in _FULL else StoreFailed
            raise failure(f"queue/segments: {error.strerror}") from error
        return places

    def _with_room_for(self, octets: int) -> Segment:
        active = self._active
        if active is not None:
            if not active.end or active.end + octets <= self._size:
                return active
            self._sealed.append(active)
        self._active = active = self._spares.pop() if self._spares else self._make()
        active.end = 0
        return active

    def _make(self) -> Segment:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._active = None
        descriptor = os.open(str(self._last + 1), flags, 0o600, dir_fd=self._descriptor)
        self._last += 1
        sync(self._descriptor, self._directory)
        return Segment(self._last, descriptor)

    def keep(self, placed: Iterable[tuple[int, Place, int]]) -> None:
        """The transaction is durable: messages, where their contents were placed, and how large they are."""
        known = {segment.number: segment for segment in (self._active, *self._sealed) if segment is not None}
        for message, (number, at), size in placed:
            segment = known[number]
            segment.live += 1
            self._where[message] = (segment, at, size)

    # What goes

    def unknown(self, removed: Iterable[tuple[int]]) -> list[int]:
        """Those of the messages about to be removed that may be in a lasting segment: only their rows tell where."""
        until, where = self._lasting_until, self._where
        return [number for (number,) in removed if number <= until and number not in where]

    def give_back(self, removed: Iterable[tuple[int]]) -> None:
        """The removal of these messages is durable."""
        for (message,) in removed:
            place = self._where.pop(message, None)
            if place is not None:
                place[0].live -= 1

    def give_back_lasting(self, removed: Iterable[tuple[int, int, int]]) -> None:
        """Likewise, of the contents at these places: segment, offset, size."""
        for number, at, size in removed:
            live = self._lasting.get(number, 0)
            if live > 1:
                self._lasting[number] = live - 1
                with contextlib.suppress(OSError):
                    self._punch(number, [(at, size)])
            elif live:
                del self._lasting[number]
                self._unlink(number)
        if not self._lasting:
            self._lasting_until = -1

    def _settle(self) -> None:
        """Have full segments used again when they are empty; what stays in the oldest stays for long."""
        for segment in tuple(self._sealed):
            if not segment.live:
                self._sealed.remove(segment)
                if len(self._spares) < _SPARES:
                    self._spares.append(segment)
                else:
                    self._discard(segment)
        while len(self._sealed) > _SEALED:
            self._make_lasting(self._sealed.pop(0))

    def _make_lasting(self, segment: Segment) -> None:
        held = {message: place for message, place in self._where.items() if place[0] is segment}
        for message in held:
            del self._where[message]
        self._lasting[segment.number] = len(held)
        self._lasting_until = max(self._lasting_until, *held)
        os.close(segment.descriptor)
        with contextlib.suppress(OSError):
            self._punch(segment.number, _between(sorted((at, size) for _, at, size in held.values()), segment.end))

    def drop_empty(self) -> bool:
        """Give the device the room of segments that hold nothing; False if there are none."""
        self._settle()
        dropped, self._spares = self._spares, []
        if self._active is not None and not self._active.live:
            dropped.append(self._active)
            self._active = None
        for segment in dropped:
            self._discard(segment)
        return bool(dropped)

    def _discard(self, segment: Segment) -> None:
        os.close(segment.descriptor)
        self._unlink(segment.number)

    def _unlink(self, number: int) -> None:
        # If that cannot be, the next start tries again.
        with contextlib.suppress(OSError):
            os.unlink(str(number), dir_fd=self._descriptor)

    def _punch(self, number: int, holes: Iterable[tuple[int, int]]) -> None:
        descriptor = os.open(str(number), os.O_RDWR | os.O_CLOEXEC, dir_fd=self._descriptor)
        try:
            for at, size in holes:
                # A file system that cannot do it keeps the room until the whole segment is empty.
                _fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, at, size + -size % _BLOCK)
        finally:
            os.close(descriptor)

    # Looking

    def read(self, number: int, at: int, size: int) -> bytes:
        """A content; what there is of it if it is not whole. OSError."""
        # Not to wait for ever if it is a pipe.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(str(number), flags, dir_fd=self._descriptor)
        try:
            return os.pread(descriptor, size, at)
        finally:
            os.close(descriptor)


def _append(segment: Segment, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        count = os.pwrite(segment.descriptor, rest, segment.end)
        segment.end += count
        rest = rest[count:]
    segment.end += -segment.end % _BLOCK


def _between(taken: Sequence[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    """Offset and size of what lies between the contents, which begin at multiples of the block, and behind them."""
    free = 0
    for at, size in taken:
        if at > free:
            yield free, at - free
        free = at + size + -size % _BLOCK
    if end > free:
        yield free, end - free

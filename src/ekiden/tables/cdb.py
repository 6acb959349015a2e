"""D. J. Bernstein's constant database: a file that is written once, replaced as a whole, and read in two steps.

Layout, all numbers 32 bits little-endian: 256 pairs (position, slots) for the hash tables; the records, each key
length, data length, key, data; then the hash tables, whose slots are pairs (hash, record's position), position 0
marking an empty one. Source: cdb(5).

Records are read by position instead of through a memory map: whoever cuts short a mapped file kills its readers
with a bus error, while a short read is merely a damaged table.
"""

from __future__ import annotations

import os
from array import array
from struct import Struct

from ekiden.tables.table import TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_PAIR = Struct("<II")
_HEADER = Struct("<512I")
_LIMIT = 1 << 32
_SLOTS_AT_ONCE = 8
_RECORD_AT_ONCE = 256


def cdb_hash(key: bytes) -> int:
    """The 32-bit hash that places a key."""
    value = 5381
    for octet in key:
        value = (value * 33 & 0xFFFFFFFF) ^ octet
    return value


class Cdb:
    """An open constant database. It goes on answering from the file it opened when another takes that one's name.

    Raises TableError if the file cannot be opened or is damaged where it is looked at; positions and lengths in it
    are believed only within its size.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TableError(f"unable to read {path}: {error.strerror}") from error
        try:
            self._header = _HEADER.unpack(self._read(0, _HEADER.size))
            self._check_header(os.fstat(self._descriptor).st_size)
        except TableError:
            self.close()
            raise

    def _check_header(self, size: int) -> None:
        """Refuse a file cut short, and one whose header was never written because its writer was stopped."""
        starts, counts = self._header[0::2], self._header[1::2]
        if not any(counts) and size != _HEADER.size:
            raise self._damaged()
        for start, count in zip(starts, counts, strict=True):
            if count and not _HEADER.size <= start <= size - count * _PAIR.size:
                raise self._damaged()

    def close(self) -> None:
        """Give the file up; look-ups raise TableError from then on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Cdb:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()

    def get(self, key: bytes) -> bytes | None:
        """The first value of ``key``, or None."""
        return next(self.values(key), None)

    def values(self, key: bytes) -> Iterator[bytes]:
        """All values of ``key``, in the order in which they were added."""
        hashed = cdb_hash(key)
        for slot_hash, position in self._slots(hashed):
            if slot_hash == hashed:
                value = self._value_if(key, position)
                if value is not None:
                    yield value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All records in the order in which they were added."""
        starts, counts = self._header[0::2], self._header[1::2]
        tables = (start for start, count in zip(starts, counts, strict=True) if count)
        position, end = _HEADER.size, min(tables, default=_HEADER.size)
        while position < end:
            key_size, size = _PAIR.unpack(self._read(position, _PAIR.size))
            if position + _PAIR.size + key_size + size > end:
                raise self._damaged()
            record = self._read(position + _PAIR.size, key_size + size)
            yield record[:key_size], record[key_size:]
            position += _PAIR.size + key_size + size
        if position != end:
            raise self._damaged()

    def _slots(self, hashed: int) -> Iterator[tuple[int, int]]:
        """The used slots that may stand for a hash, from its own place on and around, up to the first empty one."""
        start, count = self._header[(hashed & 255) * 2 : (hashed & 255) * 2 + 2]
        slot = (hashed >> 8) % count if count else 0
        left = count
        while left:
            run = min(left, count - slot, _SLOTS_AT_ONCE)
            for pair in _PAIR.iter_unpack(self._read(start + slot * _PAIR.size, run * _PAIR.size)):
                if not pair[1]:
                    return
                yield pair
            left -= run
            slot = (slot + run) % count

    def _value_if(self, key: bytes, position: int) -> bytes | None:
        """The value of the record at ``position`` if ``key`` is the record's."""
        begin = _PAIR.size + len(key)
        if position < _HEADER.size:
            raise self._damaged()
        record = self._read(position, begin + _RECORD_AT_ONCE, at_least=_PAIR.size)
        key_size, size = _PAIR.unpack_from(record)
        if key_size != len(key) or record[_PAIR.size : begin] != key:
            return None
        if begin + size <= len(record):
            return record[begin : begin + size]
        return self._read(position + begin, size)

    def _read(self, position: int, size: int, at_least: int = -1) -> bytes:
        """``size`` octets at ``position``; fewer only down to ``at_least``, for where the file may end."""
        try:
            # A damaged length must not make us ask for memory that the file cannot fill.
            if size > 65536 and position + size > os.fstat(self._descriptor).st_size:
                raise self._damaged()
            octets = os.pread(self._descriptor, size, position)
        except OSError as error:
            raise TableError(f"unable to read {self._path}: {error.strerror}") from error
        if len(octets) < (size if at_least < 0 else at_least):
            raise self._damaged()
        return octets

    def _damaged(self) -> TableError:
        return TableError(f"unable to read {self._path}: the file is damaged")


class CdbWriter:
    """Writes a constant database to a file open for writing, which is at its beginning and can seek.

    The octets are those that cdbmake writes for the same records in the same order.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = _HEADER.size
        self._tables = [array("Q") for _ in range(256)]
        file.write(bytes(_HEADER.size))

    def add(self, key: bytes, value: bytes) -> None:
        """Add a record; a key may come again. OverflowError beyond 4 GiB, OSError if writing fails."""
        hashed = cdb_hash(key)
        self._tables[hashed & 255].append(hashed << 32 | self._position)
        self._file.write(_PAIR.pack(len(key), len(value)) + key + value)
        self._advance(_PAIR.size + len(key) + len(value))

    def finish(self) -> None:
        """Write the hash tables. The file is then complete, but neither flushed nor closed."""
        header: list[int] = []
        for entries in self._tables:
            slots = _arrange(entries)
            header += (self._position, len(slots))
            self._file.write(b"".join(_PAIR.pack(entry >> 32, entry & 0xFFFFFFFF) for entry in slots))
            self._advance(_PAIR.size * len(slots))
        self._file.seek(0)
        self._file.write(_HEADER.pack(*header))

    def _advance(self, size: int) -> None:
        self._position += size
        if self._position >= _LIMIT:
            raise OverflowError("a constant database holds at most 4 GiB")


def _arrange(entries: Iterable[int]) -> list[int]:
    """A hash table of twice as many slots as entries; 0 is an empty slot."""
    waiting = list(entries)
    slots = [0] * (2 * len(waiting))
    for entry in waiting:
        slot = (entry >> 40) % len(slots)
        while slots[slot]:
            slot = (slot + 1) % len(slots)
        slots[slot] = entry
    return slots


def replace_cdb(path: Path, temporary: Path, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Write ``records`` to ``temporary``, have them on disk, and give the file the name ``path``.

    Readers see the old file or the new one, whole. ``temporary`` must be on the same file system; a file of that
    name is destroyed. Raises OSError, whose ``filename`` is the file in question, or whatever ``records`` raises;
    ``path`` is then as it was.
    """
    with open(temporary, "wb") as file:
        writer = CdbWriter(file)
        for key, value in records:
            writer.add(key, value)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)

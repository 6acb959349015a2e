"""SQLite's file, read page by page without SQLite (sqlite.org/fileformat2.html), so that damage ends nothing.

A ``PageFile`` is the file with what its write-ahead log adds. ``node`` takes a page of a tree apart; what does not
fit together is left out and noted, never raised. Numbers of pages count from 1.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ekiden.queue.wal import Log, read_log

MAGIC = b"SQLite format 3\0"
HEADER = 100
"""Octets in front of the first page's node."""
INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13

Value = int | float | str | bytes | None


@dataclass
class Cell:
    """One entry: its row id (tables with one), and its record's values; None if they cannot be read whole.

    ``overflow``: the pages that it needs besides. ``beginning``: what can be read of one that is not whole.
    """

    rowid: int
    values: tuple[Value, ...] | None
    overflow: list[int] = field(default_factory=list)
    beginning: tuple[Value, ...] = ()


@dataclass
class Node:
    """A page of a tree. ``unread``: entries that make no sense. ``keys``: of a table's interior page, the highest row
    id below each child but the last."""

    kind: int
    children: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    unread: int = 0


class PageFile:
    """``path`` and its log, open for reading; OSError if the file cannot be. Nothing is written."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.octets = os.fstat(self._descriptor).st_size
        start = os.pread(self._descriptor, HEADER, 0)
        self.log = _log_beside(path)
        self.page_size = self.log.page_size or _page_size(start)
        self.whole_pages = self.octets // self.page_size
        """Pages that the file itself holds."""
        first = self.page(1)
        self.has_header = first.startswith(MAGIC)
        self.usable = self.page_size - (first[20] if self.has_header and first[20] < 64 else 0)
        said = int.from_bytes(first[28:32], "big") if self.has_header else 0
        self.pages = self.log.pages or said or self.whole_pages
        """How many there should be."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def header(self, offset: int) -> int:
        """A number of four octets in the header."""
        return int.from_bytes(self.page(1)[offset : offset + 4], "big")

    def last(self) -> int:
        """The last page of which there is anything."""
        return max(self.whole_pages, max(self.log.frames, default=0))

    def page(self, number: int) -> bytes:
        """A page as the last transaction left it; zeros where there is nothing."""
        found = self.log.page(number)
        if found is None:
            found = os.pread(self._descriptor, self.page_size, (number - 1) * self.page_size)
        return found.ljust(self.page_size, b"\0")

    def is_there(self, number: int) -> bool:
        """Whether there is anything of a page, in the file or in its log."""
        return 0 < number <= self.whole_pages or number in self.log.frames

    def node(self, number: int, read_cells: bool = True) -> Node | None:
        """The page taken apart; None if it is no tree's. Without ``read_cells`` only its children are looked for."""
        page = self.page(number)
        at = HEADER if number == 1 else 0
        node = Node(page[at])
        if node.kind not in (INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE):
            return None
        (count,) = struct.unpack_from(">H", page, at + 3)
        interior = node.kind in (INTERIOR_INDEX, INTERIOR_TABLE)
        start = at + (12 if interior else 8)
        if start + 2 * count > self.usable:
            return None
        for pointer in struct.unpack_from(f">{count}H", page, start):
            if not start + 2 * count <= pointer <= self.usable - 4:
                node.unread += 1
                continue
            if interior:
                node.children.append(int.from_bytes(page[pointer : pointer + 4], "big"))
            if node.kind == INTERIOR_TABLE:
                node.keys.append(varint(page.ljust(self.page_size + 9, b"\0"), pointer + 4)[0])
            if read_cells and node.kind != INTERIOR_TABLE:
                self._read_cell(node, page, pointer + (4 if interior else 0))
        if interior:
            node.children.append(int.from_bytes(page[at + 8 : at + 12], "big"))
        return node

    def _read_cell(self, node: Node, page: bytes, at: int) -> None:
        try:
            size, at = varint(page, at)
            rowid = 0
            if node.kind == LEAF_TABLE:
                rowid, at = varint(page, at)
            payload, overflow = self._payload(page, at, size, node.kind == LEAF_TABLE)
        except IndexError:
            node.unread += 1
            return
        values, whole = record(payload)
        if whole and len(payload) == size:
            node.cells.append(Cell(rowid, values, overflow))
        else:
            node.cells.append(Cell(rowid, None, overflow, values))

    def _payload(self, page: bytes, at: int, size: int, of_table: bool) -> tuple[bytes, list[int]]:
        """As much of a record as can be had, and its overflow pages."""
        most = self.usable - 35 if of_table else (self.usable - 12) * 64 // 255 - 23
        if size <= most:
            return page[at : at + size], []
        least = (self.usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (self.usable - 4)
        local = local if local <= most else least
        pieces = [page[at : at + local]]
        left, following = size - local, int.from_bytes(page[at + local : at + local + 4], "big")
        chain: list[int] = []
        while left > 0 and self.is_there(following) and following not in chain[-8:]:
            chain.append(following)
            more = self.page(following)
            pieces.append(more[4 : 4 + min(left, self.usable - 4)])
            left -= self.usable - 4
            following = int.from_bytes(more[:4], "big")
        return b"".join(pieces), chain

    def free(self) -> tuple[set[int], bool]:
        """The pages that are not in use, and whether the list of them is whole."""
        found: set[int] = set()
        trunk, expected = self.header(32), self.header(36)
        while trunk:
            page = self.page(trunk)
            following, count = struct.unpack_from(">II", page)
            if not self.is_there(trunk) or trunk in found or count > self.usable // 4 - 2:
                return found, False
            leaves = struct.unpack_from(f">{count}I", page, 8)
            if any(not 1 < leaf <= self.pages or leaf in found for leaf in leaves):
                return found, False
            found.add(trunk)
            found.update(leaves)
            trunk = following
        return found, len(found) == expected


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine octets and where it ends; IndexError beyond the data's end."""
    value = 0
    for place in range(8):
        octet = data[at + place]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9


def record(payload: bytes) -> tuple[tuple[Value, ...], bool]:
    """A record's values, as many as can be read, and whether that is all of them and nothing else."""
    found: list[Value] = []
    try:
        kinds, end = _kinds(payload)
        found.extend(_values(kinds, payload, end))
    except (IndexError, ValueError):
        return tuple(found), False
    return tuple(found), True


def _kinds(payload: bytes) -> tuple[list[int], int]:
    """What a record's header says of its values, and where they begin."""
    end, at = varint(payload, 0)
    kinds: list[int] = []
    while at < end:
        kind, at = varint(payload, at)
        kinds.append(kind)
    if at != end:
        raise ValueError
    return kinds, end


_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _values(kinds: list[int], payload: bytes, at: int) -> Iterator[Value]:
    for kind in kinds:
        size = _INTEGERS.get(kind, 8 if kind == 7 else max(0, kind - 12) // 2)
        piece = payload[at : at + size]
        if len(piece) != size or kind in (10, 11):
            raise ValueError
        at += size
        if kind in _INTEGERS:
            yield int.from_bytes(piece, "big", signed=True)
        elif kind == 7:
            yield struct.unpack(">d", piece)[0]
        elif kind in (8, 9):
            yield kind - 8
        elif kind:
            yield piece.decode() if kind % 2 else piece
        else:
            yield None
    if at != len(payload):
        raise ValueError


def _log_beside(path: Path) -> Log:
    try:
        return read_log(path.with_name(f"{path.name}-wal").read_bytes())
    except FileNotFoundError:
        return Log()


def _page_size(start: bytes) -> int:
    """What the header says, if that can be; else what ekiden's stores have."""
    said = int.from_bytes(start[16:18], "big")
    return said if start.startswith(MAGIC) and said in (512, 1024, 2048, 4096, 8192, 16384, 32768) else 4096

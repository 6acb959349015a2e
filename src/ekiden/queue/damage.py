"""Is the store damaged? What is looked at before SQLite opens it, and what the queue role looks at when it starts.

SQLite takes an empty file for a new queue, and a log that is damaged or gone for one in which less was written: mail
would be lost without a word. So ``look`` goes before every opening; it reads the header and what a crash left of the
log, and for the queue role all pages but the leaves: some hundred of a queue of a gigabyte. Leaves are checked by
SQLite when they are used, and by ``ekiden audit``.

``queue/state`` says whether a queue role has the store open or has closed it in order: only then is there no log. Of
an open one it says how far its log reached a second ago: one that was cut off looks to SQLite as if it ended there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ekiden.queue.pages import INTERIOR_INDEX, INTERIOR_TABLE, PageFile, Value
from ekiden.queue.store import StoreDamaged
from ekiden.queue.wal import extent

FILE = "queue.sqlite"
SHOWN = f"queue/{FILE}"
"""What people are told: to the queue role its own directory is the root."""
STATE = "state"
RECOVERED = "recovered"
"""The directory of a new store that is complete and has not taken the old one's place yet (``queue.recovery``)."""

_OPEN, _CLOSED = b"open", b"closed\n"
_REACH = re.compile(rb"open ([0-9a-f]{16}) ([0-9]{10})\n")
LOG = f"{FILE}-wal"


def look(directory: Path, thorough: bool = False) -> None:
    """Raises ``StoreDamaged`` where SQLite would go on without a word; OSError if the files cannot be read.

    ``thorough``: look also at every tree down to its leaves, and at the list of free pages.
    """
    path = directory / FILE
    if (directory / RECOVERED).exists():
        raise StoreDamaged("a recovery of the queue was interrupted")
    try:
        status = path.lstat()
    except FileNotFoundError:
        # It is made before any content is stored, and the role that opens it first says so in its state.
        if state(directory) is not None or _has_contents(directory):
            raise StoreDamaged(f"{SHOWN} is gone") from None
        return
    if not stat.S_ISREG(status.st_mode):
        raise StoreDamaged(f"{SHOWN} is not a file")
    if not status.st_size:
        raise StoreDamaged(f"{SHOWN} is empty")
    if (state(directory) or b"").startswith(_OPEN):
        _look_at_reach(directory)
    file = PageFile(path)
    try:
        for fault in _faults(file):
            raise StoreDamaged(fault)
        for fault in structure(file) if thorough else ():
            raise StoreDamaged(f"{SHOWN}: {fault}")
    finally:
        file.close()


def _look_at_reach(directory: Path) -> None:
    """Raises ``StoreDamaged`` if the log is not there, or ends before what it is known to have held."""
    try:
        descriptor = os.open(directory / LOG, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StoreDamaged(f"{SHOWN}-wal is gone, and with it what was written last") from None
    try:
        salt, frames = extent(descriptor)
    finally:
        os.close(descriptor)
    said = _REACH.fullmatch(state(directory) or b"")
    # With another salt it was begun again, and what is in it says itself whether it is whole.
    if said and int(said[2]) and salt in ("", said[1].decode()) and frames < int(said[2]):
        raise StoreDamaged(f"{SHOWN}-wal has been truncated: {frames} of at least {int(said[2])} pages are there")


def _has_contents(directory: Path) -> bool:
    return any(any((directory / kind).glob("*")) for kind in ("spool", "segments"))


def _faults(file: PageFile) -> Iterator[str]:
    if file.log.damage:
        yield f"{SHOWN}-wal: {file.log.damage}"
    if not file.has_header:
        yield f"{SHOWN} does not begin as such a file does"
    there = file.whole_pages + sum(file.whole_pages < number <= file.pages for number in file.log.frames)
    if there < file.pages:
        yield f"{SHOWN} has been truncated: {there} of {file.pages} pages are there"


def state(directory: Path) -> bytes | None:
    """What ``queue/state`` says; None if there is none."""
    try:
        return (directory / STATE).read_bytes()
    except FileNotFoundError:
        return None


def mark_open(directory: Path) -> None:
    """Say that there is a log from now on. Where the power fails before this is on disk, less is known, no more."""
    (directory / STATE).write_bytes(_OPEN + b"\n")


class LogReach:
    """Notes from time to time how far the log of an open store reaches. Its octets are on the disk by then; where the
    power fails before this is, too, less is known."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / LOG, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._state = os.open(directory / STATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            os.close(self._descriptor)
            raise
        self._noted = ("", 0)

    def note(self) -> None:
        """To be called between transactions. OSError."""
        reach = extent(self._descriptor)
        if reach != self._noted:
            os.pwrite(self._state, b"%b %b %010d\n" % (_OPEN, reach[0].encode() or b"-" * 16, reach[1]), 0)
            self._noted = reach

    def forget(self) -> None:
        """Note durably that nothing is known: the log is about to be cut off in order. OSError."""
        os.pwrite(self._state, b"%b %b %010d\n" % (_OPEN, b"-" * 16, 0), 0)
        os.fsync(self._state)
        self._noted = ("", 0)

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._state)


def mark_closed(directory: Path) -> None:
    """Say durably that the log is about to go, in order; OSError if that cannot be."""
    if state(directory) not in (None, _CLOSED):
        with (directory / STATE).open("wb", buffering=0) as file:
            file.write(_CLOSED)
            os.fsync(file.fileno())


def structure(file: PageFile) -> Iterator[str]:
    """What is wrong with the trees' pages other than leaves, and with the list of free pages."""
    _free, whole = file.free()
    if not whole:
        yield "the list of free pages is damaged"
    for name, root in roots(file):
        yield from _look_at_tree(file, name, root)


def roots(file: PageFile) -> list[tuple[str, int]]:
    """Tables and indexes by name, with the page at which each begins: what the schema says."""
    found = [("schema", 1)]
    for _kind, name, _table, root, _statement in schema(file):
        if isinstance(name, str) and isinstance(root, int):
            # It is shown to people; a name with other characters is none of ours.
            found.append(("".join(each if each.isprintable() else "?" for each in name), root))
    return found


def schema(file: PageFile) -> list[tuple[Value, ...]]:
    """The schema's rows that can be read: type, name, table, first page, statement."""
    node = file.node(1) if file.has_header else None
    cells = node.cells if node is not None else []
    return [cell.values for cell in cells if cell.values is not None and len(cell.values) == 5]


def _look_at_tree(file: PageFile, name: str, root: int) -> Iterator[str]:
    """One page of each level below ``root`` tells whether the next is leaves: all are equally deep."""
    level, depth = [root], 0
    while level:
        following: list[int] = []
        for number in level:
            node = file.node(number, read_cells=False) if file.is_there(number) else None
            if node is None or node.unread:
                yield f"page {number} of {name} is damaged"
            elif node.kind in (INTERIOR_TABLE, INTERIOR_INDEX):
                following += node.children
        depth += 1
        if not following or depth > 20:
            return
        if any(not 1 < number <= file.pages for number in following) or len(set(following)) < len(following):
            yield f"a page of {name} is damaged"
            return
        below = file.node(following[0], read_cells=False)
        if below is not None and below.kind not in (INTERIOR_TABLE, INTERIOR_INDEX):
            return
        level = following

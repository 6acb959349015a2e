"""Taking messages out of an mbox file so that a crash at any moment loses none that is to stay.

Where the directory is ours, the file is written anew beside the old one and renamed over it: there is one or the
other at any moment. In a spool directory that belongs to root neither can be done, and the file is changed in place,
after what it will be from the first removed message on has been written to a journal:

1. journal written and synchronised
2. file overwritten from the first removed message on, synchronised
3. file cut to its new length, synchronised
4. journal removed

A crash before 1 is done leaves the file as it was, and a journal that is not whole, which is ignored. After that the
change is carried out by the next session, ``recover``, also if mail was appended meanwhile: octets between the new
length and the old one that are still the old ones say that 3 was not reached.

Both are called with the file locked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ekiden.delivery.content import write_all
from ekiden.delivery.maildir import sync_directory
from ekiden.mailstore.spool_scan import Entry, read_range

_HEAD = struct.Struct(">16sQQQQQ32s")
_MAGIC = b"ekiden-journal 1"


def remove(path: bytes, descriptor: int, journal: bytes, entries: Sequence[Entry], removed: frozenset[int]) -> None:
    """Take out the messages at these places of ``entries``, which covers the whole file. Raises OSError."""
    kept = [entry for place, entry in enumerate(entries) if place not in removed]
    if _may_replace(path, descriptor):
        _replace(path, descriptor, kept)
        return
    first = entries[min(removed)].start
    tail = [entry for entry in kept if entry.start > first]
    length = sum(entry.end - entry.start for entry in tail)
    pieces = (piece for entry in tail for piece in read_range(descriptor, entry.start, entry.end))
    _write_journal(journal, descriptor, first, length, pieces)
    recover(descriptor, journal)


def _may_replace(path: bytes, descriptor: int) -> bool:
    """Whether a new file can take the old one's place and be to everybody what that was."""
    status = os.fstat(descriptor)
    directory = os.path.dirname(path) or b"."
    return (
        os.access(directory, os.W_OK | os.X_OK)
        and not os.stat(directory).st_mode & 0o1000
        and not os.path.islink(path)
        and status.st_nlink == 1
        and status.st_uid == os.geteuid()
        and (status.st_gid == os.getegid() or status.st_gid in os.getgroups())
    )


def _replace(path: bytes, descriptor: int, kept: Iterable[Entry]) -> None:
    status = os.fstat(descriptor)
    temporary = b"%b.ekiden-%d" % (path, os.getpid())
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    new = os.open(temporary, flags, 0o600)
    try:
        try:
            for entry in kept:
                _copy(descriptor, entry, new)
            os.fchown(new, -1, status.st_gid)
            os.fchmod(new, status.st_mode & 0o7777)
            os.fsync(new)
        finally:
            os.close(new)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path) or b".")


def _copy(descriptor: int, entry: Entry, new: int) -> None:
    for piece in read_range(descriptor, entry.start, entry.end):
        write_all(new, piece)


def _write_journal(journal: bytes, descriptor: int, first: int, length: int, tail: Iterable[bytes]) -> None:
    """Write down that from offset ``first`` on the file will be ``tail``, whose length is ``length``.

    After a crash in here the journal is what it was before.
    """
    status = os.fstat(descriptor)
    old = _digest(read_range(descriptor, first + length, status.st_size))
    head = _HEAD.pack(_MAGIC, status.st_dev, status.st_ino, first, first + length, status.st_size, old)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    temporary = journal + b".new"
    new = os.open(temporary, flags, 0o600)
    try:
        whole = hashlib.sha256(head)
        write_all(new, head)
        for piece in tail:
            whole.update(piece)
            write_all(new, piece)
        write_all(new, whole.digest())
        os.fsync(new)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(new)
    os.rename(temporary, journal)
    sync_directory(os.path.dirname(journal) or b".")


def recover(descriptor: int, journal: bytes) -> bool:
    """Carry out what a journal says about this file, if there is one that does; whether there was. Raises OSError."""
    try:
        written = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        change = _read_head(written)
        status = os.fstat(descriptor)
        ours = change is not None and (change.device, change.inode) == (status.st_dev, status.st_ino)
        if change is not None and ours and not _was_cut(descriptor, change, status.st_size):
            appended = status.st_size - change.old
            if appended:
                # Mail came after the crash and before anybody looked: it moves down with the rest.
                tail = (*_content(written, change), *read_range(descriptor, change.old, status.st_size))
                _write_journal(journal, descriptor, change.first, change.new - change.first + appended, tail)
                return recover(descriptor, journal)
            _carry_out(descriptor, written, change)
    finally:
        os.close(written)
    os.unlink(journal)
    return ours


class _Change(NamedTuple):
    """A journal's head: the file, the first changed offset, new and old length, digest of what is cut off."""

    device: int
    inode: int
    first: int
    new: int
    old: int
    digest: bytes


def _read_head(written: int) -> _Change | None:
    """None if the journal is not whole."""
    size = os.fstat(written).st_size
    if size < _HEAD.size + 32:
        return None
    if os.pread(written, 32, size - 32) != _digest(read_range(written, 0, size - 32)):
        return None
    magic, *fields = _HEAD.unpack(os.pread(written, _HEAD.size, 0))
    change = _Change(*fields)
    return change if magic == _MAGIC and size == _HEAD.size + change.new - change.first + 32 else None


def _content(written: int, change: _Change) -> Iterator[bytes]:
    return read_range(written, _HEAD.size, _HEAD.size + change.new - change.first)


def _was_cut(descriptor: int, change: _Change, size: int) -> bool:
    """Whether the change was carried out; whatever follows the new length was appended since then."""
    return size < change.old or _digest(read_range(descriptor, change.new, change.old)) != change.digest


def _carry_out(descriptor: int, written: int, change: _Change) -> None:
    place = change.first
    for piece in _content(written, change):
        view = memoryview(piece)
        while view:
            count = os.pwrite(descriptor, view, place)
            place += count
            view = view[count:]
    os.fsync(descriptor)
    os.ftruncate(descriptor, change.new)
    os.fsync(descriptor)


def _digest(pieces: Iterator[bytes]) -> bytes:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return whole.digest()

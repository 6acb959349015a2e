"""Laying a home out by its table: what has to be changed is known, and possible, before anything is.

A second run repairs what differs and changes nothing else. What is a symbolic link is the administrator's choice (the
queue on another disk, qmail-queue led to qmail-qmqpc) and left alone, its owner and mode with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ekiden.installation.accounts import Owners
from ekiden.installation.tree import Entry, Fault, faults

_PLAIN = re.compile(r"/[A-Za-z0-9_./+@%,=-]+")


class CannotInstall(Exception):
    """Why the home cannot be laid out; nothing has been changed. The text is for the administrator."""


class Change(NamedTuple):
    """What is to be done about one entry; ``str`` says it in a line."""

    home: Path
    entry: Entry
    faults: tuple[Fault, ...]
    writes: bool = False
    """The file gets its text."""

    def __str__(self) -> str:
        path = self.home / self.entry.path
        mode = f"{self.entry.modes[0]:o}"
        if self.writes:
            return f"write {path}"
        if Fault.MISSING in self.faults:
            return f"make directory {path}, mode {mode}"
        whom = [f"{self.entry.owner}, group {self.entry.group}"] * bool({Fault.OWNER, Fault.GROUP} & {*self.faults})
        return f"change {path} to " + ", ".join(whom + [f"mode {mode}"] * (Fault.MODE in self.faults))


def plan(home: Path, entries: Iterable[Entry], owners: Owners) -> list[Change]:
    """The changes that make the home what its table, ``entries``, says; raises ``CannotInstall``, and OSError."""
    if not _PLAIN.fullmatch(str(home)):
        raise CannotInstall(f"{home}: the scripts in boot/ need a home without spaces, quotes or colons in its path")
    return list(_changes(home, entries, owners))


def _changes(home: Path, entries: Iterable[Entry], owners: Owners) -> Iterator[Change]:
    for entry in entries:
        path = home / entry.path
        found = faults(home, entry, owners)
        if Fault.TYPE in found:
            raise CannotInstall(f"{path} {Fault.TYPE.value}: move it out of the way")
        if Fault.MISSING not in found and path.is_symlink():
            continue
        writes = entry.text is not None and (Fault.MISSING in found or path.read_bytes() != entry.text.encode())
        if found or writes:
            yield Change(home, entry, tuple(found), writes)


def apply(change: Change, owners: Owners) -> None:
    """Do it; OSError if that fails."""
    entry, path = change.entry, change.home / change.entry.path
    if change.writes:
        _write(path, entry, owners)
        return
    if Fault.MISSING in change.faults:
        path.mkdir(parents=not entry.path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _own(descriptor, entry, owners, None if change.faults in _OWNERS_ONLY else entry.modes[0])
    finally:
        os.close(descriptor)


_OWNERS_ONLY = ((Fault.OWNER,), (Fault.GROUP,), (Fault.OWNER, Fault.GROUP))


def _write(path: Path, entry: Entry, owners: Owners) -> None:
    """Replace a file in one step: programs that run, or start just now, have the old one or the new one whole."""
    assert entry.text is not None
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(entry.text.encode())
            _own(file.fileno(), entry, owners, entry.modes[0])
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _own(descriptor: int, entry: Entry, owners: Owners, mode: int | None) -> None:
    """Owner first, because a change of it may clear bits of the mode; ``mode`` None keeps what it was."""
    kept = os.fstat(descriptor).st_mode & 0o7777
    if owners.are_qmails:
        uid, gid = owners.uid(entry.owner), owners.gid(entry.group)
        assert uid is not None and gid is not None
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, kept if mode is None else mode)


def closed_to_others(home: Path, *places: Path) -> list[Path]:
    """The directories on the way to these places and the home that other users than their owner cannot enter."""
    ways = {way for place in places for way in (place.resolve(), *place.resolve().parents)} | {*home.parents}
    return sorted(way for way in ways if way.is_dir() and not way.stat().st_mode & 0o001)

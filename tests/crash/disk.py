"""What a disk may hold after the power failed: every state that a trace's writes and syncs allow.

The rules are POSIX's, harsher than any one file system's: a file's data is kept once it was synced, and a directory's
entry once the directory was; of the rest, any part may be on the disk. A rename's new name comes with its file.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.tracing import Call

SECTOR = 512
"""Octets that a disk writes whole."""

Tree = dict[str, bytes]
_LAST = re.compile(r"(?:, |^)(\d+)$")
_HOLE = re.compile(r", (\d+), (\d+)$")


@dataclass
class Change:
    """One change of a file's data (``kind`` write, truncate) or of a directory (enter, leave).

    ``file`` is the file's number, ``where`` what must be synced for it to be kept: that number, or a directory.
    ``after`` is the change that must be kept for this one to be.
    """

    kind: str
    file: int
    where: int | str
    path: str = ""
    offset: int = 0
    data: bytes = b""
    durable: bool = False
    lost: bool = False
    """Its sync failed: the kernel has forgotten it, and a later sync does not write it."""
    after: Change | None = None


@dataclass
class Moment:
    """A point of the trace: the changes until then, and what had been told."""

    changes: list[Change]
    told: list[str]


class Disk:
    """Files below ``root``, as ``before`` has them, while a trace runs over them."""

    def __init__(self, root: Path, before: Tree, told: Path) -> None:
        self._root, self._told = f"{root}/", os.fsencode(told)
        self._initial = dict(before)
        self._names = {path: number for number, path in enumerate(sorted(before))}
        self._data = {self._names[path]: bytearray(data) for path, data in before.items()}
        self.changes: list[Change] = []
        self.told: list[str] = []

    def moments(self, calls: list[Call]) -> Iterator[Moment]:
        """The disk before the first call and after each that changes or tells something."""
        yield Moment([], [])
        for call in calls:
            if call.result < 0:
                self._forget(call)
            elif self._follow(call):
                copies: dict[int, Change] = {}
                for change in self.changes:
                    after = copies.get(id(change.after))
                    copies[id(change)] = Change(**{**vars(change), "after": after})
                yield Moment(list(copies.values()), list(self.told))

    def _follow(self, call: Call) -> bool:
        strings = call.strings()
        if call.name == "writev" and strings and strings[0] == self._told:
            self.told += strings[1].decode().splitlines()
            return True
        paths = [self._inside(text) for text in strings]
        match call.name:
            case "openat":
                return self._open(self._full(strings), call.arguments)
            case "write" | "pwrite64":
                return self._write(paths[0], strings, call)
            case "ftruncate":
                return self._truncate(paths[0], int(_LAST.findall(call.arguments)[0]))
            case "fallocate":
                return "FALLOC_FL_PUNCH_HOLE" in call.arguments and self._punch(paths[0], call)
            case "fsync" | "fdatasync":
                return self._sync(paths[0])
            case "rename" | "renameat" | "renameat2":
                return self._rename(*self._two(strings))
            case "unlink" | "unlinkat":
                return self._unlink(self._full(strings))
        return False

    def _inside(self, text: bytes) -> str:
        path = os.fsdecode(text).removesuffix(" (deleted)") + "/"
        return (path.removeprefix(self._root)[:-1] or ".") if path.startswith(self._root) else ""

    def _full(self, strings: list[bytes]) -> str:
        """The path below the root that a directory's path and a name make."""
        return self._inside(os.path.normpath(os.path.join(*strings)))

    def _two(self, strings: list[bytes]) -> tuple[str, str]:
        half = len(strings) // 2
        return self._full(strings[:half]), self._full(strings[half:])

    def _open(self, path: str, arguments: str) -> bool:
        if not path or ("O_CREAT" not in arguments and "O_TRUNC" not in arguments):
            return False
        if path in self._names:
            return "O_TRUNC" in arguments and self._truncate(path, 0)
        number = len(self._data)
        self._names[path], self._data[number] = number, bytearray()
        self.changes.append(Change("enter", number, parent(path), path))
        return True

    def _write(self, path: str, strings: list[bytes], call: Call) -> bool:
        if path not in self._names or not call.result:
            return False
        number = self._names[path]
        data = strings[1][: call.result]
        # What write() is used for here goes to the file's end.
        offset = int(_LAST.findall(call.arguments)[0]) if call.name == "pwrite64" else len(self._data[number])
        put(self._data[number], offset, data)
        self.changes.append(Change("write", number, number, offset=offset, data=data))
        return True

    def _punch(self, path: str, call: Call) -> bool:
        """A hole is read as zeros, and does not make the file longer."""
        if path not in self._names:
            return False
        number = self._names[path]
        offset, length = map(int, _HOLE.findall(call.arguments)[0])
        data = bytes(min(length, len(self._data[number]) - offset))
        put(self._data[number], offset, data)
        self.changes.append(Change("write", number, number, offset=offset, data=data))
        return True

    def _truncate(self, path: str, size: int) -> bool:
        if path not in self._names:
            return False
        number = self._names[path]
        cut(self._data[number], size)
        self.changes.append(Change("truncate", number, number, offset=size))
        return True

    def _sync(self, path: str) -> bool:
        where: int | str = self._names.get(path, path)
        for change in self.changes:
            if change.where == where and not change.lost:
                change.durable = True
        return True

    def _forget(self, call: Call) -> None:
        if call.name in ("fsync", "fdatasync"):
            path = self._inside(call.strings()[0])
            for change in self.changes:
                change.lost = change.lost or (change.where == self._names.get(path, path) and not change.durable)

    def _rename(self, old: str, new: str) -> bool:
        if old not in self._names:
            return False
        number = self._names.pop(old)
        self._names[new] = number
        entered = Change("enter", number, parent(new), new)
        self.changes += [entered, Change("leave", number, parent(old), old, after=entered)]
        return True

    def _unlink(self, path: str) -> bool:
        if path not in self._names:
            return False
        number = self._names.pop(path)
        self.changes.append(Change("leave", number, parent(path), path))
        return True

    def state(self, kept: list[Change]) -> Tree:
        """The files when just these changes, in their order, are on the disk."""
        names = {path: number for number, path in enumerate(sorted(self._initial))}
        data = {number: bytearray(self._initial[path]) for path, number in names.items()}
        there = {id(change) for change in kept}
        for change in kept:
            content = data.setdefault(change.file, bytearray())
            if change.kind == "write":
                put(content, change.offset, change.data)
            elif change.kind == "truncate":
                cut(content, change.offset)
            elif change.kind == "enter":
                names[change.path] = change.file
            elif change.after is None or id(change.after) in there:
                names.pop(change.path, None)
        return {path: bytes(data.get(number, b"")) for path, number in names.items()}


def parent(path: str) -> str:
    """The directory of a path below the root; ``.`` is the root."""
    return os.path.dirname(path) or "."


def put(content: bytearray, offset: int, data: bytes) -> None:
    """Write into a file; a gap becomes zeros."""
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def cut(content: bytearray, size: int) -> None:
    """Truncate a file, or extend it with zeros."""
    del content[size:]
    content.extend(bytes(size - len(content)))


@dataclass
class Choice:
    """Which of the changes that nothing synced are on the disk. ``samples``: random ones per moment."""

    samples: int
    chance: random.Random = field(default_factory=random.Random)

    def of(self, moment: Moment) -> Iterator[list[Change]]:
        """All prefixes of what is not durable, the last write whole or torn; and some subsets."""
        loose = [change for change in moment.changes if not change.durable]
        for count in range(len(loose) + 1):
            yield self._with(moment, loose[:count])
            if count and loose[count - 1].kind == "write" and len(loose[count - 1].data) > 1:
                yield self._with(moment, [*loose[: count - 1], self._torn(loose[count - 1])], loose[count - 1])
        for _ in range(self.samples if len(loose) > 1 else 0):
            yield self._with(moment, [change for change in loose if self.chance.random() < 0.5])

    def _torn(self, change: Change) -> Change:
        sectors = len(change.data) // SECTOR
        size = SECTOR * self.chance.randrange(1, sectors) if sectors > 1 else len(change.data) // 2
        return Change(**{**vars(change), "data": change.data[:size]})

    def _with(self, moment: Moment, loose: list[Change], torn: Change | None = None) -> list[Change]:
        there = {id(change) for change in loose}
        return [
            loose[-1] if change is torn else change
            for change in moment.changes
            if change.durable or id(change) in there or change is torn
        ]

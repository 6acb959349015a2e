"""Errors of the machine, put by strace in the place of a system call: once, or from there on."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash.bench import Bench
from tests.crash.desk import Books
from tests.crash.disk import Disk
from tests.crash.tracing import CALLS, Call, Point, points, read, traced

LOOKING = "read,pread64,mmap"
"""Calls that change nothing, and fail as well."""

TELLING = {"writev", "sendmsg", "sendto"}
"""Their failing is a client's that is gone."""

_FULL = "ENOSPC EDQUOT EIO"
_NAMES = f"{_FULL} EROFS EACCES ENOMEM"

ERRORS = {
    "write": _FULL,
    "pwrite64": _FULL,
    "pwritev": _FULL,
    "fallocate": _FULL,
    "ftruncate": "EIO EDQUOT",
    "truncate": "EIO EDQUOT",
    "fsync": _FULL,
    "fdatasync": _FULL,
    "openat": f"EMFILE ENFILE {_NAMES}",
    "mkdir": _NAMES,
    "mkdirat": _NAMES,
    "rename": _NAMES,
    "renameat": _NAMES,
    "renameat2": _NAMES,
    "link": _NAMES,
    "linkat": _NAMES,
    "unlink": "EIO EROFS EACCES",
    "unlinkat": "EIO EROFS EACCES",
    "read": "EIO",
    "pread64": "EIO",
    "mmap": "ENOMEM",
}
"""Of each call the errors that the kernel gives when the device, the file system or the machine is in trouble."""


@dataclass(frozen=True)
class Fault:
    """``lasting``: every such call from this one on fails, and not only this one."""

    point: Point
    error: str
    lasting: bool

    def options(self) -> tuple[str, ...]:
        name, number = self.point
        return ("-e", f"inject={name}:error={self.error}:when={number}{'+' if self.lasting else ''}")

    def __str__(self) -> str:
        name, number = self.point
        return f"{self.error} at {name} {number}{' and from there on' if self.lasting else ''}"


def work_traced(work: Callable[[], None], log: Path, fault: Fault | None = None) -> list[Call]:
    """The calls of the work, done with that fault."""
    traced(work, log, *(fault.options() if fault else ()), calls=f"{CALLS},{LOOKING}")
    return list(read(log))


def faults(calls: list[Call]) -> Iterator[Fault]:
    """All that can happen to a work that makes these calls, once it has begun."""
    beginning = next(at for at, call in enumerate(calls) if call.name == "writev")
    earlier = set(points(calls[:beginning], opening=True))
    for point in points(calls, opening=True):
        if point[0] not in TELLING and point not in earlier:
            for error in ERRORS[point[0]].split():
                yield Fault(point, error, False)
                yield Fault(point, error, True)


def chosen(every: list[Fault], count: int, chance: random.Random) -> list[Fault]:
    """``count`` of them, no call more often than it must be: a work's reads are many, its syncs few."""
    by_call: dict[str, list[Fault]] = {}
    for fault in chance.sample(every, len(every)):
        by_call.setdefault(fault.point[0], []).append(fault)
    found: list[Fault] = []
    while len(found) < min(count, len(every)):
        found += [left.pop() for left in by_call.values() if left]
    return chance.sample(found, min(count, len(found)))


def books_after(bench: Bench, fault: Fault, power: bool = True) -> tuple[Books, Books, str]:
    """How the fault ended: with the files as they are, with what a power failure just then leaves of them (without
    ``power``: not looked at), and what was told."""
    calls = work_traced(bench.renew(), bench.log, fault)
    told = bench.told.read_text()
    if not power:
        return bench.books(), Books(), told
    disk = Disk(bench.run, bench.tree(), bench.told)
    *_, last = disk.moments(calls)
    books = bench.books()
    bench.lay_out(disk.state([change for change in last.changes if change.durable]))
    return books, bench.books(told.splitlines()), told


def happened(log: Path) -> bool:
    """Whether the work came as far as the fault."""
    return "(INJECTED)" in log.read_text("ascii", "replace")


assert all(hasattr(errno, name) for names in ERRORS.values() for name in names.split()) and os.name == "posix"

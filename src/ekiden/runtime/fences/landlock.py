"""Landlock: a process gives up, for good, all files but some, TCP, and signals to others (landlock(7)).

Kernels know more or less of it; what a kernel does not know stays as it was. Files that are open already stay usable.
Nothing here restricts who looks at a file's name or attributes, nor connections to unix sockets that have a path.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from enum import IntFlag
from functools import cache
from pathlib import Path

from ekiden.runtime.fences.libc import checked, libc


class Right(IntFlag):
    """What may be done with files below a directory (LANDLOCK_ACCESS_FS)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


# Numbers, because enum's operators are Python, which a process that was just forked has to touch page by page.
READ = int(Right.READ_FILE | Right.READ_DIR)
WRITE = READ | int(Right.WRITE_FILE | Right.TRUNCATE | Right.MAKE_REG | Right.REMOVE_FILE | Right.REFER)
_OF_FILES = int(Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV)
"""Rights that a rule may give on a file that is no directory."""
_KNOWN = [int(right << 1) - 1 for right in (Right.MAKE_SYM, Right.REFER, Right.TRUNCATE, Right.IOCTL_DEV)]
"""All rights of versions 1, 2, 3 and 5."""
_REFER = int(Right.REFER)

_TCP_BIND, _TCP_CONNECT = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_BELOW_PATH = 1


@cache
def version() -> int:
    """The kernel's version of Landlock's interface; 0 if it has none, or it is switched off."""
    return max(0, int(libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def restrict(
    reads: Iterable[Path],
    writes: Iterable[Path],
    *,
    connects: bool = False,
    binds: bool = False,
    signals: bool = False,
    files: bool = False,
) -> None:
    """Leave this thread, and those to come, nothing but what is below these paths; paths that are not there are
    passed over.

    ``connects`` and ``binds``: whether TCP connections may be made, and local addresses chosen. Abstract unix sockets
    and, without ``signals``, signals reach only this process and its children. ``files``: all stay as they are.
    Raises OSError; give_up_gains of ``runtime.fences.seccomp`` comes first, and no other thread may run yet.
    """
    known = version()
    handled = 0 if files else _KNOWN[min(known, 5) - 1 - (known > 3)]
    network = (not binds) * _TCP_BIND | (not connects) * _TCP_CONNECT if known >= 4 else 0
    scoped = _ABSTRACT_SOCKETS | (not signals) * _SIGNALS if known >= 6 else 0
    if not (handled or network or scoped):
        return
    rules = [(path, READ) for path in reads] + [(path, WRITE) for path in writes]
    if files:
        # Without a word about it every ruleset takes away the right to move files between directories.
        handled, rules = _REFER, [(Path("/"), _REFER)]
    fields = 1 + (known >= 4) + (known >= 6)
    attributes = struct.pack(f"={fields}Q", *(handled, network, scoped)[:fields])
    ruleset = checked(libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled)
        checked(libc.syscall(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        below = struct.pack("=Qi", rights if is_directory else rights & _OF_FILES, descriptor)
        checked(libc.syscall(_ADD, ruleset, _BELOW_PATH, below, 0))
    finally:
        os.close(descriptor)

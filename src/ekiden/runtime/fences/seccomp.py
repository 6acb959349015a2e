"""Filters of system calls: a list of what a process may still ask the kernel for, made into BPF (seccomp(2)).

What is not listed fails with EPERM; what is newer than this list fails with ENOSYS, so that the C library falls back
on what is older. A filter holds for the process, its threads and its children, for ever; it sees a call's number and
the low halves of its arguments, but nothing that they point at.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from ekiden.runtime.fences.libc import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, checked, libc
from ekiden.runtime.fences.syscalls import NEWEST, NUMBERS


class Test(NamedTuple):
    """Whether ``argument & mask == value``."""

    argument: int
    mask: int
    value: int


Alternatives = tuple[tuple[Test, ...], ...]
"""A call is allowed if all tests of one alternative hold."""


class Machine(NamedTuple):
    """What the kernel calls a processor (linux/audit.h), and the column of ``NUMBERS`` that is its."""

    audit: int
    column: int


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}

_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_LOAD, _EQUAL, _GREATER, _AND, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Places in struct seccomp_data (linux/seccomp.h)."""

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_SPEC_ALLOW = 4
"""Without it kernels before 5.16 slow the process down for fear of Spectre; it runs no code of others."""

_SECCOMP = {"x86_64": 317, "aarch64": 277}


def machine() -> Machine | None:
    """The processor this runs on, None if there is no list for it."""
    # A 32-bit interpreter on a 64-bit kernel calls by other numbers.
    return MACHINES.get(platform.machine()) if struct.calcsize("P") == 8 else None


def allow_only(calls: Mapping[str, Alternatives], absent: Iterable[str], target: Machine) -> bytes:
    """A filter that lets ``calls`` through, by name; no alternatives: always. ``absent`` are said not to exist."""
    program = _head(target)
    program += _answer(absent, _ERROR | errno.ENOSYS, target)
    # What is looked at more closely first: for the others the kernel remembers the answer.
    for name, alternatives in sorted(calls.items(), key=lambda item: not item[1]):
        number = NUMBERS[name][target.column]
        if number is None:
            continue
        block = _examine(alternatives) if alternatives else [(_RETURN, 0, 0, _ALLOW)]
        program += [(_EQUAL, 0, len(block), number), *block]
    program += [(_GREATER, 0, 1, NEWEST), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    return _pack([*program, (_RETURN, 0, 0, _ERROR | errno.EPERM)])


def deny(absent: Iterable[str], target: Machine) -> bytes:
    """A filter that says of some calls that they do not exist, and lets all others through."""
    program = _head(target) + _answer(absent, _ERROR | errno.ENOSYS, target)
    return _pack([*program, (_RETURN, 0, 0, _ALLOW)])


@cache
def available() -> str:
    """Why filters cannot be had here; empty if they can."""
    if machine() is None:
        return f"no list of system calls for {platform.machine()}"
    action = ctypes.c_uint32(_ERROR)
    if libc.syscall(_SECCOMP[platform.machine()], _GET_ACTION_AVAIL, 0, ctypes.byref(action)):
        return f"seccomp: {os.strerror(ctypes.get_errno())}"
    return ""


def install(program: bytes) -> None:
    """Put a filter on this thread and those to come, for good. Raises OSError; ``give_up_gains`` comes first."""
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    checked(libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _SPEC_ALLOW, described))


def give_up_gains() -> None:
    """From now on no execve(2) gives this process privileges (PR_SET_NO_NEW_PRIVS). Raises OSError."""
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def hide_memory() -> None:
    """Let no other process of the same user look into this one (PR_SET_DUMPABLE)."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


_Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false (both count instructions), constant."""


def _head(target: Machine) -> list[_Instruction]:
    """Refuse other architectures' calls, which have other numbers; leave the number in the register.

    x32's calls on x86_64 bear a high bit, which no listed number has.
    """
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, target.audit),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
    ]


def _answer(names: Iterable[str], verdict: int, target: Machine) -> list[_Instruction]:
    program: list[_Instruction] = []
    for name in names:
        number = NUMBERS[name][target.column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]
    return program


def _examine(alternatives: Alternatives) -> list[_Instruction]:
    """Look at the arguments; ends with a verdict, since the register does not hold the number any more."""
    program: list[_Instruction] = []
    for tests in alternatives:
        block: list[_Instruction] = [(_RETURN, 0, 0, _ALLOW)]
        for test in reversed(tests):
            # Both machines are little-endian: the low half of an argument comes first.
            block = [
                (_LOAD, 0, 0, _ARGUMENTS + 8 * test.argument),
                (_AND, 0, 0, test.mask),
                (_EQUAL, 0, len(block), test.value),
                *block,
            ]
        program += block
    return [*program, (_RETURN, 0, 0, _ERROR | errno.EPERM)]


def _pack(program: list[_Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)

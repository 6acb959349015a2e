"""Filters: what they say of every call, run as the kernel runs them; the numbers, as the headers have them."""

from __future__ import annotations

import errno
import itertools
import os
import struct
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peers.processes import program

from ekiden.runtime.fences.isolation import ABSENT, PROFILES, allowed
from ekiden.runtime.fences.seccomp import MACHINES, Machine, allow_only, deny
from ekiden.runtime.fences.syscalls import NEWEST, NUMBERS

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS

X86 = MACHINES["x86_64"]


def run(filter: bytes, number: int, arguments: Sequence[int] = (), audit: int = X86.audit) -> int:
    """The verdict of a BPF program, as the kernel would come to it."""
    data = struct.pack("<iIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    program = list(struct.iter_unpack("<HBBI", filter))
    at = register = 0
    while True:
        code, true, false, constant = program[at]
        at += 1
        match code:
            case 0x20:
                (register,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                register &= constant
            case 0x15:
                at += true if register == constant else false
            case 0x25:
                at += true if register > constant else false
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"code {code:#x}")


def filters(role: str, machine: Machine = X86, reads: bool = False, writes: bool = False) -> bytes:
    return allow_only(allowed(PROFILES[role], reads, writes, os.getpid()), ("clone3", *ABSENT), machine)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("role", PROFILES)
@pytest.mark.parametrize(("reads", "writes"), [(False, False), (True, False), (True, True)])
def test_every_number_has_its_verdict(role: str, machine: Machine, reads: bool, writes: bool) -> None:
    told = allowed(PROFILES[role], reads, writes, os.getpid())
    names = {numbers[machine.column]: name for name, numbers in NUMBERS.items()}
    filter = filters(role, machine, reads, writes)

    assert len(filter) <= 8 * 4096
    for number in range(-1, 1000):
        name = names.get(number, "")
        verdict = run(filter, number, (2**32 - 1,) * 6, machine.audit)
        if name in told and not told[name]:
            assert verdict == ALLOW, name
        elif name in ("clone3", *ABSENT) or not 0 <= number <= NEWEST:
            assert verdict == ENOSYS, name or number
        else:
            # With all bits set, no argument that is looked at passes.
            assert verdict == EPERM, name or number


@pytest.mark.parametrize(
    ("role", "name", "arguments", "passes"),
    [
        ("smtpd", "socket", (1, 1), True),
        ("smtpd", "socket", (2, 1), False),
        ("queue", "socket", (1, 1), False),
        ("remote", "socket", (2, 1 | 0o2004000, 0), True),
        ("remote", "socket", (10, 2, 17), True),
        ("remote", "socket", (2, 2, 1), False),
        ("remote", "socket", (2, 3, 0), False),
        ("remote", "socket", (16, 3, 0), True),
        ("remote", "socket", (16, 3, 12), False),
        ("remote", "socket", (17, 2, 0), False),
        ("smtpd", "mmap", (0, 4096, 3), True),
        ("smtpd", "mmap", (0, 4096, 7), False),
        ("smtpd", "mprotect", (0, 4096, 4), False),
        ("session", "clone", (0x3D0F00,), False),
        ("keeper", "clone", (0x1200011,), True),
        ("keeper", "clone", (0x10000000 | 17,), False),
        ("smtpd", "clone", (0x1200011,), False),
        ("pop3keeper", "prctl", (38,), True),
        ("pop3keeper", "prctl", (24,), False),
        ("keeper", "setresuid", (0, 0, 0), False),
        ("smtpd", "openat", (0, 0, 0o2000000), True),
        ("smtpd", "openat", (0, 0, 1), False),
        ("smtpd", "openat", (0, 0, 2), False),
        ("smtpd", "openat", (0, 0, 0o100), False),
        ("smtpd", "openat", (0, 0, 0o1000), False),
        ("smtpd", "open", (0, 0o1000), False),
        ("smtpd", "sendto", (0, 0, 0, 0x4000), True),
        ("smtpd", "sendto", (0, 0, 0, 0x20000000), False),
        ("smtpd", "sendmsg", (0, 0, 0x20004000), False),
        ("smtpd", "ioctl", (0, 0x5421), True),
        ("smtpd", "ioctl", (0, 0x5412), False),
        ("smtpd", "fcntl", (0, 1030), True),
        ("smtpd", "fcntl", (0, 8), False),
        ("smtpd", "prlimit64", (0, 7), True),
        ("smtpd", "prlimit64", (1, 7), False),
        ("smtpd", "clone", (0x3D0F00,), True),
        ("smtpd", "clone", (17,), False),
        ("smtpd", "clone", (0x10000 | 0x10000000,), False),
    ],
)
def test_arguments(role: str, name: str, arguments: Sequence[int], passes: bool) -> None:
    filter = filters(role, reads=True)
    number = NUMBERS[name][X86.column]
    assert number is not None

    assert run(filter, number, arguments) == (ALLOW if passes else EPERM)
    # The kernel takes the low half of these; what stands above must not help.
    assert run(filter, number, [each | 1 << 40 for each in arguments]) == (ALLOW if passes else EPERM)


@given(st.integers(-(2**31), 2**31 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_calls_of_other_architectures_are_refused(number: int, arguments: list[int]) -> None:
    for role, other in itertools.product(PROFILES, (0x40000003, MACHINES["aarch64"].audit)):
        assert run(filters(role), number, arguments, other) == EPERM


def test_what_does_not_exist() -> None:
    filter = deny(ABSENT, X86)

    assert {run(filter, number) for number in (425, 426, 427)} == {ENOSYS}
    assert {run(filter, number) for number in (*range(425), *range(428, 1000))} == {ALLOW}


@pytest.mark.parametrize(("header", "column"), [("asm/unistd_64.h", 0), ("asm-generic/unistd.h", 1)])
def test_the_numbers_are_those_of_the_headers(header: str, column: int) -> None:
    """asm-generic's are aarch64's."""
    known = headers_numbers(header)
    if not known:
        pytest.skip(f"another machine: no {header}")
    for name, numbers in NUMBERS.items():
        if numbers[column] is not None and name in known:
            assert numbers[column] == known[name], name
        elif numbers[column] is None:
            assert name not in known, name
    assert sum(name in known for name in NUMBERS) > 100


def headers_numbers(header: str) -> dict[str, int]:
    command = [program("gcc"), "-E", "-dM", "-D__BITS_PER_LONG=64", "-D__ARCH_WANT_SET_GET_RLIMIT"]
    command += ["-D__ARCH_WANT_RENAMEAT", "-D__ARCH_WANT_NEW_STAT", "-include", header, "-x", "c", "/dev/null"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    defined = {words[1]: words[2] for line in lines if len(words := line.split()) == 3}
    found = {}
    for name, value in defined.items():
        while value in defined:
            value = defined[value]
        if name.startswith("__NR_") and value.isdigit():
            found[name.removeprefix("__NR_")] = int(value)
    return found

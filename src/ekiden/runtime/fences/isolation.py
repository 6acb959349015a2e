"""What each role may still do once it has started: the profiles, and how a process takes one on for good.

Two fences on top of the roles' users: a filter of system calls (``seccomp``) and Landlock (``landlock``),
each where the kernel has it. Both also hold without root. docs/security.md says what they leave.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dns
import msgspec
import uvloop

import ekiden
from ekiden.runtime.fences import landlock, seccomp
from ekiden.runtime.fences.libc import PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG
from ekiden.runtime.fences.seccomp import Alternatives, Test


@dataclass(frozen=True)
class Profile:
    """What a role may do besides using what it has open.

    ``sockets``: families of the sockets that it may make. ``connects``, ``binds``: over TCP. ``modules``: whether it
    may read the interpreter's modules, because libraries load some when an answer from outside first asks for them.
    ``threads``, ``forks``: whether it may make threads, and processes. ``becomes``: whether the processes become
    users and take on a fence of their own; it may open all files then, and signal others. ``moves``: whether it moves
    files between directories, which the first Landlock lets nobody do. ``calls``: names of further system calls.
    """

    sockets: tuple[int, ...] = ()
    connects: bool = False
    binds: bool = False
    modules: bool = False
    threads: bool = True
    forks: bool = False
    becomes: bool = False
    moves: bool = False
    calls: str = ""


_SESSION = "chdir fchown setitimer link linkat"
_ACCOUNTS = "timerfd_create timerfd_settime"
"""What the C library's modules for user databases wait with."""
_BECOMES = f"{_SESSION} setgroups setresgid setresuid kill pidfd_open"
_FENCES = "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"

_INTERNET = (socket.AF_INET, socket.AF_INET6)

PROFILES = {
    "queue": Profile(),
    "smtpd": Profile((socket.AF_UNIX, socket.AF_NETLINK), modules=True),
    "remote": Profile((socket.AF_UNIX, *_INTERNET, socket.AF_NETLINK), connects=True, binds=True, modules=True),
    "log": Profile(),
    "syslog": Profile(sockets=(socket.AF_UNIX,)),
    "pop3d": Profile(modules=True),
    "keeper": Profile((socket.AF_UNIX,), modules=True, forks=True, calls=_ACCOUNTS),
    "local": Profile((socket.AF_UNIX,), modules=True, calls=f"{_ACCOUNTS} wait4"),
    "pop3keeper": Profile((socket.AF_UNIX,), forks=True, becomes=True, calls=_ACCOUNTS),
    "session": Profile(modules=True, threads=False, moves=True, calls=_SESSION),
    "delivery": Profile(modules=True, threads=False, moves=True, calls="fadvise64 link linkat"),
    "forwarding": Profile((socket.AF_UNIX,), modules=True, threads=False, moves=True, calls="fadvise64 link linkat"),
}
"""``syslog``: the log role when it writes to a daemon. ``pop3d``: whoever listens to clients before their login;
``pop3keeper``: whom it asks about passwords, which starts a process for each ``session``. ``local``: who hears the
queue and asks a fork server, which has no profile, for processes; it waits for its end. ``delivery``: a process
of local's for a user whose mail runs no program; ``forwarding``: the same if it is forwarded."""

MODULES = sorted({Path(os.__file__).parent, *(Path(each.__path__[0]).parent for each in (dns, msgspec, uvloop))})
MODULES.append(Path(ekiden.__file__).parent)
"""Where Python modules are: the interpreter's, the libraries' and ours, which hold no secrets."""

ZONE = (Path("/etc/localtime"), Path("/usr/share/zoneinfo"))
"""What the C library reads to tell the local time."""

ABSENT = ("io_uring_setup", "io_uring_enter", "io_uring_register")
"""What goes past every filter."""

_ALWAYS = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3
    fstat newfstatat stat lstat statx access faccessat faccessat2 readlink readlinkat getcwd getdents64 statfs fstatfs
    fsync fdatasync flock umask memfd_create
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd2 pipe pipe2 nanosleep clock_nanosleep
    accept accept4 listen recvfrom recvmsg recvmmsg shutdown getsockname getpeername getsockopt setsockopt
    munmap mremap madvise brk membarrier
    getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getrusage getrlimit times
    sysinfo uname getcpu sched_yield sched_getaffinity clock_gettime clock_getres gettimeofday time getrandom
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sigaltstack restart_syscall exit exit_group
    futex futex_waitv set_robust_list get_robust_list rseq
"""

_CHANGES_FILES = "unlink unlinkat rename renameat renameat2 ftruncate truncate fallocate fchmod"

_EXECUTABLE = 0x4
_FAST_OPEN = 0x20000000
_THREAD, _NAMESPACES = 0x10000, 0x7E020080
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LOW = 0xFFFFFFFF

# FIONBIO, FIOCLEX, FIONCLEX, FIONREAD, and TCGETS, which tells that a file is no terminal.
_IOCTLS = (0x5421, 0x5451, 0x5450, 0x541B, 0x5401)
# Duplicates, flags, locks, the sizes of pipes; not F_SETOWN, which sends signals.
_FCNTLS = (*range(8), *range(36, 39), *range(1030, 1033))


def shortcomings() -> list[str]:
    """What this kernel does not offer, in words for the log."""
    missing = []
    if reason := seccomp.available():
        missing.append(f"system calls are not filtered ({reason})")
    known = landlock.version()
    if not known:
        missing.append("files are not fenced off (the kernel has no Landlock, or it is switched off)")
    elif known < 4:
        missing.append(f"TCP is fenced off by system calls alone (Landlock {known}; 4 is needed)")
    return missing


def begin() -> None:
    """Before a role's event loop is made: no privileges by execve(2), no looking in from outside, no io_uring.

    libuv uses io_uring if there is any when a loop is made, and ends the process if it cannot go on using it. Raises
    OSError.
    """
    shut()
    target = seccomp.machine()
    if target is not None and not seccomp.available():
        seccomp.install(seccomp.deny(ABSENT, target))


def shut() -> None:
    """The same for a process without an event loop. Raises OSError."""
    seccomp.give_up_gains()
    seccomp.hide_memory()


def complete(role: str, reads: Sequence[Path] = (), writes: Sequence[Path] = ()) -> None:
    """Before a role takes the first octet from outside: nothing but its profile from now on.

    ``reads`` and ``writes`` are the files and directories that it still opens. Raises OSError.
    """
    profile = PROFILES[role]
    # libuv opens /dev/null with the first stream, to have a descriptor to spare when there is none left, and if it
    # cannot, tries again with every stream.
    reads = [*reads, Path(os.devnull), *MODULES] if profile.modules else reads
    if landlock.version() > profile.moves:
        every = profile.becomes
        landlock.restrict(reads, writes, connects=profile.connects, binds=profile.binds, signals=every, files=every)
    target = seccomp.machine()
    if target is not None and not seccomp.available():
        seccomp.install(_filter(role, bool(reads), bool(writes), os.getpid() if profile.threads else 0, target))


def prepare(*roles: str) -> None:
    """Make the filters of roles without threads, so that the processes to be forked for them find them made."""
    target = seccomp.machine()
    shortcomings()
    if target is not None:
        for role in roles:
            _filter(role, True, True, 0, target)


@cache
def _filter(role: str, reads: bool, writes: bool, process: int, target: seccomp.Machine) -> bytes:
    calls = allowed(PROFILES[role], reads, writes, process)
    # To threads it is said that clone3 is not there: its flags are out of a filter's sight, clone's are not.
    return seccomp.allow_only(calls, ("clone3", *ABSENT), target)


def allowed(profile: Profile, reads: bool, writes: bool, process: int) -> dict[str, Alternatives]:
    """The system calls of a profile: by name, with what their arguments may be. ``reads``, ``writes``: files.

    ``process`` is the one whose threads may be signalled.
    """
    calls = _freely(f"{_ALWAYS} {profile.calls}") | _IN_PART
    if profile.sockets:
        calls |= {"socket": _sockets(profile.sockets), "connect": ()}
    if profile.binds:
        calls["bind"] = ()
    return calls | _of_processes(profile, process) | _of_files(reads, writes or profile.becomes)


def _of_processes(profile: Profile, process: int) -> dict[str, Alternatives]:
    """Making threads and processes, signalling them, and becoming users."""
    calls: dict[str, Alternatives] = {}
    clones = (_THREAD,) * profile.threads + (0,) * profile.forks
    if clones:
        calls["clone"] = tuple((Test(0, _THREAD | _NAMESPACES, each),) for each in clones)
    if profile.threads:
        calls["tgkill"] = _one_of(0, (process,))
    if profile.forks:
        calls["wait4"] = ()
    if profile.becomes:
        calls |= _freely(f"{_BECOMES} {_FENCES}")
        calls["prctl"] = _one_of(0, (PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS))
    return calls


def _of_files(reads: bool, writes: bool) -> dict[str, Alternatives]:
    """Opening files, and changing them; neither of files that are open."""
    if writes:
        return _freely(f"open openat {_CHANGES_FILES}")
    return {"open": _without(1, _WRITES), "openat": _without(2, _WRITES)} if reads else {}


def _freely(names: str) -> dict[str, Alternatives]:
    """Calls whose arguments may be anything."""
    return dict.fromkeys(names.split(), ())


def _sockets(families: Sequence[int]) -> Alternatives:
    """Unix sockets; streams over TCP and datagrams over UDP; of netlink what tells this host's addresses."""
    alternatives: list[tuple[Test, ...]] = []
    for family in families:
        this = Test(0, _LOW, family)
        if family == socket.AF_UNIX:
            alternatives.append((this,))
        elif family == socket.AF_NETLINK:
            alternatives.append((this, Test(2, _LOW, socket.NETLINK_ROUTE)))
        else:
            for kind, protocol in ((socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)):
                alternatives += [(this, Test(1, 0xF, kind), Test(2, _LOW, number)) for number in (0, protocol)]
    return tuple(alternatives)


def _without(argument: int, flags: int) -> Alternatives:
    return ((Test(argument, flags, 0),),)


def _one_of(argument: int, values: Sequence[int]) -> Alternatives:
    return tuple((Test(argument, _LOW, value),) for value in values)


_IN_PART: dict[str, Alternatives] = {
    "sendto": _without(3, _FAST_OPEN),
    "sendmsg": _without(2, _FAST_OPEN),
    "sendmmsg": _without(3, _FAST_OPEN),
    "mmap": _without(2, _EXECUTABLE),
    "mprotect": _without(2, _EXECUTABLE),
    "ioctl": _one_of(1, _IOCTLS),
    "fcntl": _one_of(1, _FCNTLS),
    "socketpair": _one_of(0, (socket.AF_UNIX,)),
    "prlimit64": _one_of(0, (0,)),
    "prctl": _one_of(0, (PR_SET_NAME,)),
}
"""What every profile has, but not with any arguments."""

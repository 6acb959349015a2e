"""A real daemon each of whose processes does what an intruder would do: as soon as it is isolated, if it ever is.

``hostile.py HOME RESULTS UID PORT DECOYS`` runs the supervisor of HOME as the user UID. Each role writes a line of
JSON to RESULTS: role, uid, and for each attempt ``done`` or the error's name; then it goes about its work. PORT is a
TCP port of 127.0.0.1 where somebody listens; DECOYS has a directory for every role that anybody may write to, with a
file ``mail`` that anybody may read and write, and two Maildirs of one user, ``own`` and ``foreign``. With
``unfenced`` as a sixth argument the roles do what is POSSIBLE before they are isolated, and never are. The supervisor
and local's fork server never are: as root they do what ROOT may.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ekiden.delivery import carrier
from ekiden.runtime import control, fork_server
from ekiden.runtime.control_frames import Status
from ekiden.runtime.fences import isolation
from ekiden.runtime.pop3 import process as pop3_process
from ekiden.runtime.preloading import preload
from ekiden.supervisor import entering
from ekiden.supervisor.supervisor import Supervisor

Attempts = dict[str, Callable[[], object]]

_libc = ctypes.CDLL(None, use_errno=True)

# Numbers of system calls on x86_64, then on aarch64.
CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "fsopen": (430, 430),
    "unshare": (272, 97),
    "setns": (308, 268),
    "clone3": (435, 435),
    "vfork": (58, None),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "personality": (135, 92),
    "setuid": (105, 146),
    "setresuid": (117, 147),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "iopl": (172, None),
    "execveat": (322, 281),
    "shmget": (29, 194),
    "mq_open": (240, 180),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "splice": (275, 76),
    "x32": (0x40000000, None),
    "unheard of": (9999, 9999),
}
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "unshare": (0x10000000,),  # a user namespace
    "personality": (0xFFFFFFFF,),
    "keyctl": (0, -3, 1),
    "inotify_init1": (0,),
    "shmget": (0, 4096, 0o600),
    "userfaultfd": (1,),
    "setuid": (0,),
    "setresuid": (-1, -1, -1),
    "seccomp": (2, 0, ctypes.byref(ctypes.c_uint32(0x7FFF0000))),
    "landlock_create_ruleset": (None, 0, 1),
}

POSSIBLE = ("read users", "read mail", "list files", "write a file", "overwrite mail", "symlink", "make directory")
POSSIBLE += ("connect", "datagram", "routes", "unix", "abstract", "fork", "code", "data into code", "keyctl")
"""What any process may do that is not fenced off, so that to see it fail means something."""

ALIEN = ("read memory", "read environment", "read queue", "read secrets", "write to control", "write to the log")
ALIEN += ("write to the queue", "command the queue", "pose as remote", "pose as local", "pose as smtpd")
ALIEN += ("signal others", "limits of others", "setuid", "init_module", "packet")
"""What a user may not do who has nothing to do with mail."""


ROOT = ("read queue", "read secrets", "read passwords", "write to control", "write to the log", "write to the queue")
ROOT += ("signal others", "setuid", "chown", "truncate", "remove from another mailbox", "take another's mail")
ROOT += ("command the queue",)
"""What root may do besides, of which an intruder would be glad."""


def attempts(home: Path, port: int, place: Path, role: str, spare: socket.socket, other: int) -> Attempts:
    """Everything tried, by name; ``spare`` is a TCP socket from before, ``other`` the process's parent."""
    decoys = place / role
    reading = partial(os.open, flags=os.O_RDONLY)
    making = partial(os.open, flags=os.O_WRONLY | os.O_CREAT, mode=0o600)
    return {
        "read users": lambda: reading("/etc/passwd"),
        "read passwords": lambda: reading("/etc/shadow"),
        "read mail": lambda: reading(decoys / "mail"),
        "list files": lambda: os.listdir(decoys),
        "read memory": lambda: reading(f"/proc/{other}/mem"),
        "read environment": lambda: reading(f"/proc/{other}/environ"),
        "read own memory": lambda: reading("/proc/self/mem"),
        "read queue": lambda: reading(home / "queue" / "decoy"),
        "read rules": lambda: reading(home / "control" / "tcp.smtp"),
        "read secrets": lambda: reading(home / "control" / "pop3users"),
        "read nothing": lambda: reading(os.devnull),
        "read modules": lambda: reading(os.__file__),
        "write a file": lambda: making(decoys / "evil"),
        "overwrite mail": lambda: os.open(decoys / "mail", os.O_WRONLY),
        "write to control": lambda: making(home / "control" / "evil"),
        "write to the log": lambda: making(home / "log" / "evil"),
        "write to the queue": lambda: making(home / "queue" / "evil"),
        "read mailbox": lambda: reading(place / "own" / "cur" / "kept"),
        "write to mailbox": lambda: os.close(making(place / "own" / "cur" / f"evil-{role}")),
        "move in mailbox": lambda: os.rename(place / "own" / "cur" / role, place / "own" / "new" / role),
        "read another mailbox": lambda: reading(place / "foreign" / "new" / "1"),
        "write to another mailbox": lambda: making(place / "foreign" / "new" / "evil"),
        "remove from another mailbox": lambda: os.unlink(place / "foreign" / "new" / role),
        "take another's mail": lambda: os.rename(place / "foreign" / "cur" / role, place / role / "mine"),
        "leave for home": lambda: making(place / ".qmail"),
        "truncate": lambda: os.truncate(decoys / "mail", 0),
        "remove": lambda: os.unlink(decoys / "remove"),
        "rename": lambda: os.rename(decoys / "mail", decoys / "other"),
        "link": lambda: os.link(decoys / "mail", decoys / "link"),
        "symlink": lambda: os.symlink("/etc/passwd", decoys / "symlink"),
        "make directory": lambda: os.mkdir(decoys / "directory"),
        "make device": lambda: os.mknod(decoys / "pipe", 0o010600),
        "chmod": lambda: os.chmod(decoys / "mail", 0o777),
        "chown": lambda: os.chown(decoys / "mail", 0, 0),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), 5),
        "connect with what is there": lambda: spare.connect(("127.0.0.1", port)),
        "fast open": lambda: spare.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port)),
        "bind": lambda: spare.bind(("127.0.0.1", 0)),
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "ping": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        "sctp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132),
        "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM),
        "routes": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE),
        "netfilter": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
        "crypto": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
        "virtual": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "command the queue": partial(_command, home),
        "pose as remote": partial(_keep_connection, home / "run" / "remote", 1 if role == "remote" else 30),
        "pose as local": partial(_keep_connection, home / "run" / "local", 30),
        "pose as smtpd": partial(_keep_connection, home / "run" / "intake", 1 if role == "smtpd" else 30),
        "abstract": partial(_reach_abstract, f"\0{place}"),
        "signal others": lambda: os.kill(other, 0),
        "signal all": lambda: os.kill(-1, 0),
        "owner of signals": partial(_own_signals, other),
        "limits of others": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE),
        "fork": _fork,
        "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
        "data into code": _make_executable,
        "terminal input": _type,
        **{name: partial(_call, name) for name in CALLS},
        "execute": lambda: os.execv("/bin/false", ["false"]),
    }


def try_all(given: Attempts) -> Iterator[tuple[str, str]]:
    """Each attempt's name, and ``done`` or the error's name."""
    for name, attempt in given.items():
        try:
            attempt()
        except OSError as error:
            yield name, errno.errorcode.get(error.errno or 0, str(error))
        else:
            yield name, "done"


def _call(name: str) -> None:
    number = CALLS[name][0 if os.uname().machine == "x86_64" else 1]
    if number is None:
        raise OSError(errno.ENOSYS, "not on this machine")
    if _libc.syscall(number, *_ARGUMENTS.get(name, (0, 0, 0, 0, 0))) < 0:
        raise OSError(ctypes.get_errno(), name)


def _fork() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def _make_executable() -> None:
    data = mmap.mmap(-1, 4096)
    address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(data)))
    if _libc.mprotect(address, ctypes.c_size_t(4096), 5):
        raise OSError(ctypes.get_errno(), "mprotect")


def _reach_abstract(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(name)


def _command(home: Path) -> None:
    try:
        control.request(home, Status(), 30)
    except ConnectionError:
        raise PermissionError(errno.EPERM, "the queue has hung up") from None


def _keep_connection(path: Path, seconds: float) -> None:
    """Be heard at a socket of the queue's: it says nothing, and does not hang up within so many seconds."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(seconds)
        try:
            heard = connection.recv(1)
        except TimeoutError:
            return
        except ConnectionError:
            heard = b""
        if not heard:
            raise PermissionError(errno.EPERM, "the queue has hung up")


def make_children(server: fork_server.ForkServer) -> Attempts:
    """What a role tries that has a fork server: children who are root, and who are no user with mail here."""

    def make(uid: int, gid: int) -> None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                server.make(uid, gid, b"jiro", theirs)
            ours.settimeout(60)
            if not ours.recv(1):
                raise PermissionError(errno.EPERM, "the child has ended")

    return {"child of root": lambda: make(0, 0), "child of the queue's user": lambda: make(1, 6)}


def _own_signals(other: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fcntl.fcntl(ours, fcntl.F_SETOWN, other)


def _type() -> None:
    fcntl.ioctl(0, 0x5412, b"x")


def main() -> None:
    home, results, decoys = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[5])
    uid, port = int(sys.argv[3]), int(sys.argv[4])
    preload()
    record = os.open(results, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{decoys}")
    abstract.listen()
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    spare = socket.socket()
    complete = isolation.complete
    servers: list[fork_server.ForkServer] = []

    def attack(role: str, *arguments: Any, **keywords: Any) -> None:
        given = attempts(home, port, decoys, role, spare, os.getppid())
        if "unfenced" in sys.argv:
            given = {name: given[name] for name in POSSIBLE}
        elif role == "programs":
            given = {name: given[name] for name in ALIEN}
        elif role in ("forkserver", "supervisor"):
            given = {name: given[name] for name in POSSIBLE + (ROOT if not os.getuid() else ())}
        else:
            complete(role, *arguments, **keywords)
            if role == "local":
                given |= make_children(servers[0])
        told = {"role": role, "uid": os.getuid(), "pid": os.getpid()}
        tried = dict(try_all(given))
        os.write(record, (json.dumps(told | {"tried": tried}) + "\n").encode())

    isolation.complete = attack
    entering.complete = attack  # type: ignore[attr-defined]
    run = carrier.run

    def run_after_attack(*arguments: Any) -> Callable[[], None]:
        attack("programs")
        return run(*arguments)

    carrier.run = run_after_attack  # type: ignore[assignment]
    start, serve = fork_server.start, fork_server.serve

    def start_and_keep(*arguments: Any, **keywords: Any) -> fork_server.ForkServer:
        servers.append(start(*arguments, **keywords))
        return servers[-1]

    def serve_after_attack(*arguments: Any) -> None:
        attack("forkserver")
        serve(*arguments)

    fork_server.start, fork_server.serve = start_and_keep, serve_after_attack
    close_all_but = fork_server.close_all_but
    for module in (fork_server, pop3_process):
        module.close_all_but = lambda kept: close_all_but(kept | {record, spare.fileno()})  # type: ignore[attr-defined]
    Supervisor(home, announce=lambda: attack("supervisor")).serve()


if __name__ == "__main__":
    main()

"""The fork server: whom it makes children for, and that it makes none for anything else that it hears."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.runtime import fork_server
from ekiden.runtime.fork_server import NAME_OCTETS, ForkServer

ROOT = os.geteuid() == 0
UID, GID = (4242, 4343) if ROOT else (os.getuid(), os.getgid())
NAME = b"joe"
GOOD = struct.pack("=cII", b"M", UID, GID) + NAME


def whose(name: bytes) -> tuple[int, int]:
    if name != NAME:
        raise LookupError("no such user")
    return UID, GID


def work(connection: socket.socket) -> None:
    """Say who this is, and stay until the other end closes."""
    connection.sendall(b"%d %d\n" % (os.getuid(), os.getgid()))
    connection.recv(1)


def start() -> ForkServer:
    return fork_server.start(work, whose)


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = start()
    yield server
    server.close()


@contextlib.contextmanager
def child(server: ForkServer, uid: int = UID, gid: int = GID, name: bytes = NAME) -> Iterator[tuple[int, str]]:
    """A child and what it says; nothing if it has ended instead."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = server.make(uid, gid, name, theirs)
        ours.settimeout(60)
        yield pid, ours.recv(100).decode()


def test_a_child_is_the_user_whose_the_address_is(server: ForkServer) -> None:
    with child(server) as (pid, said):
        assert said == f"{UID} {GID}\n"
        assert parent(pid) != os.getpid()
    assert_ended(pid)


def run_a_program(connection: socket.socket) -> None:
    """Start one that inherits what it may, say which it is, and stay."""
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    connection.sendall(b"%d" % program.pid)
    connection.recv(1)


def test_a_program_does_not_keep_the_connection_of_a_child_that_has_died() -> None:
    server = fork_server.start(run_a_program, whose)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = server.make(UID, GID, NAME, theirs)
        ours.settimeout(60)
        program = int(ours.recv(100))
        server.kill(pid)
        assert ours.recv(1) == b""
    os.kill(program, signal.SIGKILL)
    server.close()


@pytest.mark.parametrize(
    ("uid", "gid", "name"),
    [(UID + 1, GID, NAME), (UID, GID + 1, NAME), (UID, 0, NAME), (UID, GID, b"ann"), (UID, GID, b"joe\0")],
)
def test_nobody_becomes_a_user_whose_the_address_is_not(
    capfd: pytest.CaptureFixture[str], uid: int, gid: int, name: bytes
) -> None:
    server = start()
    with child(server, uid, gid, name) as (pid, said):
        assert said == ""
    assert_ended(pid)
    assert f"ekiden: uid {uid}: " in capfd.readouterr().err
    with child(server) as (_pid, said):
        assert said
    server.close()


def test_nobody_becomes_root(server: ForkServer) -> None:
    with pytest.raises(PermissionError), child(server, 0, GID):
        pass
    with pytest.raises(PermissionError), child(server, 0, 0, b"root"):
        pass


@pytest.mark.parametrize("name", [b"", b"x" * (NAME_OCTETS + 1)])
def test_names_have_a_length(server: ForkServer, name: bytes) -> None:
    with pytest.raises(OSError, match="name too long"), child(server, name=name):
        pass


class Hearing:
    """A server that is told anything; ``ask`` is its answer, a process id or an error's number with a minus."""

    def __init__(self) -> None:
        self.server = start()
        self.connection = self.server._connection
        self.connection.settimeout(60)
        self.ask(b"x", [])
        self.opened_first = self.opened()

    def ask(self, said: bytes, descriptors: list[int]) -> int:
        socket.send_fds(self.connection, [said], descriptors)
        return int(struct.unpack("=i", self.connection.recv(100))[0])

    def opened(self) -> list[str]:
        return os.listdir(f"/proc/{self.server._pid}/fd")

    def children(self) -> list[str]:
        return subprocess.run(["pgrep", "-P", str(self.server._pid)], capture_output=True, text=True).stdout.split()


@pytest.fixture(scope="module")
def hearing() -> Iterator[Hearing]:
    hearing = Hearing()
    yield hearing
    hearing.server.close()


@contextlib.contextmanager
def descriptors(kinds: str, place: Path) -> Iterator[list[int]]:
    """u: a unix stream socket, d: unix datagrams, p: unix packets, t: TCP, f: a file, i: a pipe."""
    sockets = {
        "u": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
        "d": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
        "p": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach(),
        "t": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
        "f": lambda: os.open(place / "file", os.O_RDWR | os.O_CREAT),
    }
    opened = [sockets[kind]() for kind in kinds]
    try:
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        (GOOD, ""),
        (GOOD, "uu"),
        (GOOD, "uuu"),
        (GOOD, "f"),
        (GOOD, "d"),
        (GOOD, "p"),
        (GOOD, "t"),
        (GOOD[: -len(NAME)], "u"),
        (GOOD[:-4], "u"),
        (GOOD[:1], "u"),
        (b"", "u"),
        (b"X" + GOOD[1:], "u"),
        (GOOD + b"x" * (NAME_OCTETS - len(NAME) + 1), "u"),
        (GOOD + b"x" * 100_000, "u"),
        (struct.pack("=cII", b"M", 0, GID) + NAME, "u"),
        (struct.pack("=cI", b"K", 1), "u"),
        (struct.pack("=cI", b"K", 1) + b"x", ""),
    ],
)
def test_what_is_no_request_is_refused(hearing: Hearing, tmp_path: Path, said: bytes, kinds: str) -> None:
    with descriptors(kinds, tmp_path) as passed:
        assert hearing.ask(said, passed) < 0
    assert hearing.children() == []
    assert hearing.opened() == hearing.opened_first


@settings(max_examples=300, deadline=None)
@given(
    said=st.binary(min_size=1, max_size=200) | st.builds(bytes.__add__, st.sampled_from([b"M", b"K"]), st.binary()),
    kinds=st.sampled_from(["u", "", "d", "uu", "uuu"]),
)
def test_garbage_makes_no_child(
    hearing: Hearing, tmp_path_factory: pytest.TempPathFactory, said: bytes, kinds: str
) -> None:
    if said[:1] == b"K" and len(said) == 5 and not kinds:
        # Of a child that there is not; there is no answer.
        socket.send_fds(hearing.connection, [said], [])
        said = b"X"
    with descriptors(kinds, tmp_path_factory.getbasetemp()) as passed:
        told = hearing.ask(said, passed)
    # One that is made looks for whom it is to be, and finds none.
    assert told < 0 or (said[:1] == b"M" and kinds == "u" and gone(told))


def test_only_a_child_is_killed(server: ForkServer) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child(server) as (pid, _said):
        server.kill(bystander.pid)
        server.kill(os.getpid())
        server.kill(pid)
        assert_ended(pid)
        server.kill(pid)
    with child(server) as (_pid, said):
        assert said
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_child_that_ends_is_not_kept(server: ForkServer) -> None:
    opened = set()
    for _ in range(20):
        with child(server) as (pid, _said):
            pass
        assert_ended(pid)
        opened.add(len(os.listdir(f"/proc/{server._pid}/fd")))
    # It is waited for before its descriptor is closed.
    assert max(opened) - min(opened) <= 1


def test_signals_to_the_role_are_not_for_it(server: ForkServer) -> None:
    with child(server) as (_pid, said):
        assert said
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1):
        os.kill(server._pid, number)
    with child(server) as (pid, said):
        assert said
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert_ended(pid)


def test_a_server_that_has_ended_makes_no_child() -> None:
    server = start()
    os.kill(server._pid, signal.SIGKILL)
    with pytest.raises(OSError, match=r"ended|pipe|reset"), child(server):
        pass
    server.close()


def test_an_answer_that_is_not_heard_is_not_taken_for_the_next_ones() -> None:
    server = start()
    with child(server) as (_pid, said):
        assert said
    os.kill(server._pid, signal.SIGSTOP)
    server._connection.settimeout(0.1)
    with pytest.raises(TimeoutError), child(server):
        pass
    os.kill(server._pid, signal.SIGCONT)
    server._connection.settimeout(60)
    with pytest.raises(OSError, match=r"ended|pipe"), child(server):
        pass
    server.close()


def test_it_ends_with_the_role() -> None:
    told, tell = os.pipe()
    role = os.fork()
    if not role:
        server = start()
        with child(server) as (pid, _said):
            os.write(tell, b"%d %d" % (server._pid, pid))
            signal.pause()
    server_pid, child_pid = map(int, os.read(told, 100).split())
    os.kill(role, signal.SIGKILL)
    os.waitpid(role, 0)
    assert_ended(server_pid)
    assert_ended(child_pid)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    """Ended, and waited for by whoever made it."""
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def assert_ended(pid: int) -> None:
    assert gone(pid)

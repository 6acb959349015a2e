"""qmail-tcpto and qmail-tcpok on a running home that has met a host which does not answer."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import smtplib
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator

import msgspec
import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import wait_until

from ekiden.delivery.remote_hosts import CAPACITY
from ekiden.installation.scripts import write_bin
from ekiden.runtime.frames import HostState

pytestmark = pytest.mark.slow


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes no connection: its backlog is full, so that the kernel drops whoever knocks."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


def program(home: Ekiden, name: str) -> str:
    return subprocess.run([home.home / "bin" / name], capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_timeout_is_told_and_forgotten(home: Ekiden, silent: int) -> None:
    home.control("timeoutconnect", "1")
    home.routes(f":127.0.0.1:{silent}")
    write_bin(home.home)
    home.start()
    assert program(home, "qmail-tcpto") == ""
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail("a@a.example", "x@far.example", "Subject: test\n\nbody\n")
    wait_until(lambda: program(home, "qmail-tcpto") != "", "the timeout is known")
    told = program(home, "qmail-tcpto")
    assert re.fullmatch(r"127\.0\.0\.1 timed out \d+ seconds ago; # recent timeouts: 1\n", told)
    home.stop()
    home.start()
    assert re.fullmatch(
        r"127\.0\.0\.1 timed out \d+ seconds ago; # recent timeouts: 1\n", program(home, "qmail-tcpto")
    )
    assert program(home, "qmail-tcpok") == ""
    assert program(home, "qmail-tcpto") == (home.home / "queue" / "tcpto").read_text() == ""


def frames(states: list[HostState]) -> bytes:
    encoded = [msgspec.msgpack.encode(state) for state in states]
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in encoded)


def connections_of(pid: int, name: str) -> Iterator[socket.socket]:
    """The connections that a process has to a socket of that name, as a debugger takes them (pidfd_getfd(2))."""
    process = os.pidfd_open(pid)
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            descriptor = ctypes.CDLL(None).syscall(438, process, int(number), 0)
            if descriptor >= 0 and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=descriptor) as found, contextlib.suppress(OSError):
                    if str(found.getpeername()).endswith(f"/{name}"):
                        yield found.dup()
            elif descriptor >= 0:
                os.close(descriptor)
    finally:
        os.close(process)


def test_what_a_remote_process_says_of_addresses_is_bounded(home: Ekiden) -> None:
    """One that has been taken over says what it likes."""
    write_bin(home.home)
    # Not started as root, nobody could reach into a process that is isolated.
    home.control("isolation", "off")
    home.start()
    remote = next(pid for pid, role in home.roles().items() if role == "remote")
    found: list[socket.socket] = []
    wait_until(lambda: found.extend(connections_of(remote, "remote")) or bool(found), "remote has connected")
    with found[0] as impostor:
        impostor.settimeout(60)
        states = [HostState(f"{number}.example", 1.0 + number, 2) for number in range(5 * CAPACITY)]
        impostor.sendall(frames(states))
        newest = f"{5 * CAPACITY - 1}.example "
        wait_until(lambda: newest in program(home, "qmail-tcpto"), "all is heard")
        assert len(program(home, "qmail-tcpto").splitlines()) == CAPACITY
        impostor.sendall(frames([HostState("x" * 100_000, 1.0, 2)]))
        while impostor.recv(1 << 20):
            pass  # until the queue has hung up
    assert "xxx" not in program(home, "qmail-tcpto")


@pytest.mark.parametrize("name", ["qmail-tcpto", "qmail-tcpok", "qmail-qstat", "qmail-qread"])
def test_a_queue_that_is_not_there(home: Ekiden, name: str) -> None:
    write_bin(home.home)
    environment = {**os.environ, "EKIDEN_HOME": str(home.home / "none")}
    done = subprocess.run(
        [home.home / "bin" / name], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr.startswith(f"{name}: fatal: the queue does not answer: ")


def test_while_ekiden_does_not_run(home: Ekiden) -> None:
    write_bin(home.home)
    (home.home / "queue" / "tcpto").write_text("192.0.2.1 1000 2\n")
    assert re.fullmatch(
        r"192\.0\.2\.1 timed out \d+ seconds ago; # recent timeouts: 2\n", program(home, "qmail-tcpto")
    )
    assert program(home, "qmail-tcpok") == program(home, "qmail-tcpto") == program(home, "qmail-qread") == ""
    assert program(home, "qmail-qstat").startswith("messages in queue: 0\n")

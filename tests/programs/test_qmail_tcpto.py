"""qmail-tcpto and qmail-tcpok on a running home that has met a host which does not answer."""

from __future__ import annotations

import re
import smtplib
import socket
import subprocess
from collections.abc import Iterator

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import wait_until

from ekiden.programs.install import write_bin

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
    wait_until(lambda: program(home, "qmail-tcpto") != "", 20, "the timeout is known")
    told = program(home, "qmail-tcpto")
    assert re.fullmatch(r"127\.0\.0\.1 timed out \d+ seconds ago; # recent timeouts: 1\n", told)
    assert program(home, "qmail-tcpok") == ""
    assert program(home, "qmail-tcpto") == ""


@pytest.mark.parametrize("name", ["qmail-tcpto", "qmail-tcpok"])
def test_a_queue_that_is_not_there(home: Ekiden, name: str) -> None:
    write_bin(home.home)
    done = subprocess.run([home.home / "bin" / name], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr.startswith(f"{name}: fatal: the queue does not answer: ")

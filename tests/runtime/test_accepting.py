"""A role's unix socket: who is connected is handed on, and waits while there are no descriptors."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ekiden.runtime.accepting import RunSocket, Shortage
from ekiden.runtime.log import Log


@contextmanager
def no_descriptors() -> Iterator[None]:
    """As many open files as there are, and not one more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen()
        yield made


def test_whoever_comes_without_descriptors_waits_and_the_log_says_so(bound: socket.socket) -> None:
    said, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def go() -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
        RunSocket(loop, bound, Shortage("queue", Log("queue", sink)), accepted.put_nowait)
        with socket.socket(socket.AF_UNIX) as client:
            said.setblocking(False)
            with no_descriptors():
                client.connect(bound.getsockname())
                line = await loop.sock_recv(said, 65536)
            assert b"queue: process %d is unable to accept a connection: Too many open files" % os.getpid() in line
            assert accepted.empty()
            with await accepted.get() as connection:
                connection.send(b"welcome")
            assert client.recv(100) == b"welcome"

    with said, sink:
        asyncio.run(go())


def test_whoever_comes_after_the_end_is_not_accepted(bound: socket.socket) -> None:
    said, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def go() -> None:
        accepted: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        RunSocket(loop, bound, Shortage("queue", Log("queue", sink)), accepted.append).close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(bound.getsockname())
            await asyncio.sleep(0.05)
        assert accepted == []

    with said, sink:
        asyncio.run(go())

"""``run/control`` from outside: how much of it one user may take."""

from __future__ import annotations

import contextlib
import socket
import struct

import msgspec
import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import wait_until

from ekiden.runtime.control import Asking
from ekiden.runtime.control_frames import Status
from ekiden.runtime.queue_control import CONNECTIONS

pytestmark = pytest.mark.slow

QUESTION = msgspec.msgpack.encode(Status())
FRAME = struct.pack(">I", len(QUESTION)) + QUESTION


def test_connections_of_one_user_are_counted(home: Ekiden) -> None:
    home.start()
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(Asking(home.home)) for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.ask(Status())
        with pytest.raises(OSError), Asking(home.home) as further:
            further.ask(Status())
        assert connections[0].ask(Status())
    wait_until(lambda: home.command("queue", "list", check=False).returncode == 0, "there is room again")


def test_who_asks_and_does_not_read_is_sent_away(home: Ekiden) -> None:
    home.start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home.home / "run" / "control"))
        connection.settimeout(60)
        with pytest.raises(ConnectionError):
            for _ in range(100_000):
                connection.sendall(FRAME * 10)
    assert home.command("queue", "list").returncode == 0

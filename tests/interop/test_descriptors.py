"""More clients than a process may have open files: they wait, and are served when others have left."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest
from tests.peers.ekiden import COMMAND, Ekiden
from tests.peers.processes import free_port, run, wait_until

pytestmark = pytest.mark.slow

LIMIT = 64
CLIENTS = 100


@pytest.mark.parametrize(("service", "greeting"), [("smtp", b"220"), ("lmtp", b"220"), ("pop3", b"+OK")])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_clients_beyond_the_limit_of_open_files_wait(home: Ekiden, service: str, greeting: bytes, unix: bool) -> None:
    """Each is greeted; none is closed without a word, and the log says what to do."""
    path = str(home.home.parent / "s")
    port = free_port()
    home.control("listen", f"{service} {path if unix else f'127.0.0.1:{port}'}")
    home.control("smtpdprocesses", "1")
    home.control("connectionsperclient", "1000")
    run(["sh", "-c", f"ulimit -n {LIMIT}; exec {COMMAND} --home {home.home} start"], 30)
    with ExitStack() as leaving:
        clients = []
        for _ in range(CLIENTS):
            client = leaving.enter_context(socket.socket(socket.AF_UNIX if unix else socket.AF_INET))
            client.settimeout(60)
            client.connect(path if unix else ("127.0.0.1", port))
            clients.append(client)
        wait_until(lambda: "unable to accept a connection: Too many open files" in home.log(), "it is told")
        assert f"raise the limit of open files, {LIMIT} for this process" in home.log()
        # The lowest number becomes free, and the process looks again, twice.
        clients.pop(0).close()
        time.sleep(2.5)
        for client in clients:
            assert client.recv(1000)[:3] == greeting
            client.close()

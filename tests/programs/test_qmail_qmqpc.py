"""qmail-qmqpc against a server that answers by script."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading

import pytest
from tests.peers.processes import free_port
from tests.programs.conftest import Site

ENVELOPE = b"Fs@x\0Ta@y\0Tb@z\0\0"


class Server(threading.Thread):
    """Reads one request and answers."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.request = b""

    def run(self) -> None:
        connection, _address = self._socket.accept()
        with connection, self._socket:
            while len(self.request) < 30:
                self.request += connection.recv(4096)
            # The client leaves when it has seen the verdict.
            with contextlib.suppress(ConnectionError):
                for octet in self._answer:
                    connection.sendall(bytes((octet,)))


def hand_over(site: Site, message: bytes, envelope: bytes = ENVELOPE) -> int:
    reading, writing = os.pipe()
    os.write(writing, envelope)
    os.close(writing)
    program = site.home / "bin" / "qmail-qmqpc"
    try:
        return subprocess.run([program], input=message, stdout=reading, timeout=60).returncode
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"9:Kok queued,", 0), (b"3:Zno,", 71), (b"3:Dno,", 31), (b"", 74), (b"12:", 74), (b"220 OK SMTP\r\n", 74)],
)
def test_the_servers_verdict(site: Site, answer: bytes, code: int) -> None:
    server = Server(answer)
    server.start()
    site.control("qmqpservers", f"# ours\nno.address\n127.0.0.1:{free_port()}\n127.0.0.1:{server.port}\n")
    assert hand_over(site, b"A: b\n\nx\r\0\xff") == code
    length, _, rest = server.request.partition(b":")
    assert rest == b"10:A: b\n\nx\r\0\xff,3:s@x,3:a@y,3:b@z,,"
    assert int(length) == len(rest) - 1


def test_nobody_answers(site: Site) -> None:
    site.control("qmqpservers", f"127.0.0.1:{free_port()}\n")
    assert hand_over(site, b"A: b\n") == 73


@pytest.mark.parametrize("servers", [None, "", "no.address\n127.0.0.1:99999\n"])
def test_no_server(site: Site, servers: str | None) -> None:
    if servers is not None:
        site.control("qmqpservers", servers)
    assert hand_over(site, b"A: b\n") == 55


@pytest.mark.parametrize(("envelope", "code"), [(b"", 54), (b"X\0\0", 91), (b"F" + b"x" * 1003 + b"\0\0", 11)])
def test_bad_envelopes(site: Site, envelope: bytes, code: int) -> None:
    site.control("qmqpservers", "127.0.0.1\n")
    assert hand_over(site, b"A: b\n", envelope) == code

"""Clients cut off at any octet, that stop in a handshake or never read: half a message is none, others are served."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.peers.certificate import Certificate
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

CONTENT = b"Subject: whole\r\n\r\nhello\r\n"
RESET = struct.pack("ii", 1, 0)
SMTP = b"EHLO c\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<haruo@ekiden.example>\r\nDATA\r\n" + CONTENT + b".\r\nQUIT\r\n"


def netstring(octets: bytes) -> bytes:
    return b"%d:%b," % (len(octets), octets)


MESSAGE = netstring(b"\nSubject: whole\n\nhello\n")
SENDER, RECIPIENT = netstring(b"a@a.example"), netstring(b"haruo@ekiden.example")
SESSIONS = {
    "smtp": (SMTP, SMTP.index(b"\r\n.\r\n") + 5),
    "lmtp": (SMTP.replace(b"EHLO", b"LHLO"), SMTP.index(b"\r\n.\r\n") + 5),
    "qmtp": (MESSAGE + SENDER + netstring(RECIPIENT), -1),
    "qmqp": (netstring(netstring(b"Subject: whole\n\nhello\n") + SENDER + RECIPIENT), -1),
}
"""What a client says, and after how many octets of it the message may have been taken (-1: all)."""


@pytest.fixture
def ports(home: Ekiden) -> dict[str, int]:
    ports = {service: free_port() for service in SESSIONS} | {"smtp": home.port, "pop3": free_port()}
    home.control("listen", *(f"{service} 127.0.0.1:{port}" for service, port in ports.items()))
    home.control("tcp.qmqp", '127.:allow,RELAYCLIENT=""', ":deny")
    home.make_inbox("haruo")
    home.start()
    return ports


def inbox(ekiden: Ekiden) -> list[bytes]:
    return [path.read_bytes() for path in (ekiden.home.parent / "user-haruo" / "Maildir" / "new").iterdir()]


def is_unharmed(ekiden: Ekiden, roles: dict[int, str]) -> None:
    """No process has died, nothing is said to be wrong, nothing is left behind."""
    assert ekiden.roles() == roles
    assert "alert" not in ekiden.log()
    wait_until(lambda: ekiden.queue() == [], "the queue is empty")
    spool = ekiden.home / "queue" / "spool"
    wait_until(lambda: not any(spool.iterdir()), "no spool file is left")


def say_and_reset(port: int, octets: bytes) -> None:
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(octets)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


@pytest.mark.parametrize("service", SESSIONS)
def test_a_message_cut_short_is_none(home: Ekiden, ports: dict[str, int], service: str) -> None:
    session, whole = SESSIONS[service]
    whole = len(session) if whole < 0 else whole
    roles = home.roles()
    for length in range(len(session)):
        say_and_reset(ports[service], session[:length])
    with socket.create_connection(("127.0.0.1", ports[service]), timeout=60) as client:
        client.sendall(session)
        wait_until(lambda: len(inbox(home)) >= 1, "the whole one has come")
    is_unharmed(home, roles)
    contents = inbox(home)
    assert 1 <= len(contents) <= 1 + len(session) - whole, "a client that was not answered may have been heard"
    assert all(content.endswith(b"Subject: whole\n\nhello\n") for content in contents)


def test_pop3_clients_cut_short(home: Ekiden, ports: dict[str, int]) -> None:
    (home.home / "users" / "pop3").write_text("")
    roles = home.roles()
    session = b"CAPA\r\nUSER haruo\r\nPASS wrong\r\nSTAT\r\nQUIT\r\n"
    for length in range(len(session)):
        say_and_reset(ports["pop3"], session[:length])
    with socket.create_connection(("127.0.0.1", ports["pop3"]), timeout=60) as client:
        assert client.recv(3) == b"+OK"
    is_unharmed(home, roles)


@pytest.fixture
def secure(home: Ekiden, certificate: Certificate, sink: Sink) -> Ekiden:
    (home.home / "control" / "servercert.pem").write_bytes(certificate.both.read_bytes())
    home.routes(f":{sink.route}")
    home.control("connectionsperclient", "1000")
    return home


BEGINNINGS = [
    b"",
    b"\x16",
    b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(100),
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"GET / HTTP/1.0\r\n\r\n",
    os.urandom(300),
]


@contextlib.contextmanager
def crowd(port: int, *said: bytes, count: int = 60) -> Iterator[list[socket.socket]]:
    """Many clients that say one of these and stay."""
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            with contextlib.suppress(ConnectionError):
                client.sendall(said[number % len(said)])
            clients.append(client)
        yield clients


def test_handshakes_that_stop_hold_up_nobody(secure: Ekiden, sink: Sink) -> None:
    smtps = free_port()
    secure.control("listen", f"smtp 127.0.0.1:{secure.port}", f"smtps 127.0.0.1:{smtps}")
    secure.start()
    roles = secure.roles()
    starttls = [b"EHLO c\r\nSTARTTLS\r\n"]
    with crowd(smtps, *BEGINNINGS), crowd(secure.port, *starttls) as clients:
        for number, client in enumerate(clients):
            heard = b""
            while b"\r\n220 " not in heard:
                heard += client.recv(1000)
            with contextlib.suppress(ConnectionError):
                client.sendall(BEGINNINGS[number % len(BEGINNINGS)])
        with dialogue(secure.port) as talk:
            assert talk.message(CONTENT, "a@a.example", "b@b.example")[0] == "2"
        sink.wait_for(1)
        for client in clients[::2]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with dialogue(secure.port) as talk:
        assert talk.message(CONTENT, "a@a.example", "b@b.example")[0] == "2"
    sink.wait_for(2)
    is_unharmed(secure, roles)


def test_clients_that_never_read_cost_bounded_memory(secure: Ekiden, sink: Sink) -> None:
    """They ask and ask and take no answer; what they are owed must not grow with what they say."""
    secure.start()
    (door,) = [pid for pid, role in secure.roles().items() if role == "smtpd"]
    before = resident(door)
    with crowd(secure.port, b"", count=8) as clients:
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(100):
                    client.send(b"NOOP\r\n" * 5000)
        with dialogue(secure.port) as talk:
            assert talk.message(CONTENT, "a@a.example", "b@b.example")[0] == "2"
        assert resident(door) - before < 40_000_000
        sink.wait_for(1)


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""Reading and writing descriptors with a time limit, plain and as TLS."""

from __future__ import annotations

import os
import socket
import ssl
import threading

import pytest
from tests.peers.certificate import Certificate

from ekiden.runtime.classic.descriptors import Descriptors
from ekiden.runtime.tls import server_context


def test_pipes() -> None:
    (our_input, their_output), (their_input, our_output) = os.pipe(), os.pipe()
    connection = Descriptors(5, our_input, our_output)
    os.write(their_output, b"said")
    assert connection.read() == b"said"
    os.close(their_output)
    assert connection.read() == b""
    connection.write(b"answer")
    assert os.read(their_input, 100) == b"answer"
    os.close(their_input)
    with pytest.raises(BrokenPipeError):
        connection.write(b"answer")
    os.close(our_input)
    os.close(our_output)


def test_nothing_is_said_in_time() -> None:
    ours, _theirs = socket.socketpair()
    with ours, _theirs, pytest.raises(TimeoutError):
        Descriptors(5, ours.fileno(), ours.fileno()).read(0.05)


def test_nothing_is_read_in_time() -> None:
    ours, _theirs = socket.socketpair()
    with ours, _theirs, pytest.raises(TimeoutError):
        Descriptors(0.05, ours.fileno(), ours.fileno()).write(bytes(10_000_000))


def test_much_is_written_as_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    data = os.urandom(1_000_000)
    with ours, theirs:
        writer = threading.Thread(target=Descriptors(10, ours.fileno(), ours.fileno()).write, args=(data,))
        writer.start()
        received = b""
        while len(received) < len(data):
            received += theirs.recv(65_536)
        writer.join()
    assert received == data


def test_tls(certificate: Certificate) -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    heard: list[bytes] = []

    def serve() -> None:
        connection = Descriptors(10, ours.fileno(), ours.fileno())
        connection.secure(server_context(str(certificate.both)))
        while data := connection.read():
            heard.append(data)
            connection.write(data.upper())
        connection.finish()

    server = threading.Thread(target=serve)
    with ours:
        server.start()
        client = ssl.create_default_context(cafile=str(certificate.certificate))
        with client.wrap_socket(theirs, server_hostname="localhost") as secured:
            secured.sendall(b"a" * 100_000)
            answer = b""
            while len(answer) < 100_000:
                answer += secured.recv(65_536)
            secured.unwrap()
        server.join()
    assert (b"".join(heard), answer) == (b"a" * 100_000, b"A" * 100_000)


def test_a_handshake_that_fails(certificate: Certificate) -> None:
    context = server_context(str(certificate.both))
    for said in (b"MAIL FROM:<a@b>\r\n", b""):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(OSError):
                Descriptors(5, ours.fileno(), ours.fileno()).secure(context)

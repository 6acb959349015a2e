"""The receiving programs under the original tcpserver, with rules from the original tcprules; real clients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import accepts, end, free_port, program, run, wait_until
from tests.peers.sinks import Sink
from tests.wire.netstrings import texts

from ekiden.installation.scripts import write_bin
from ekiden.wire.netstring import netstring

pytestmark = pytest.mark.slow

Serve = Callable[..., int]
"""``serve(program, *rules)``: the port on which tcpserver starts the home's program, after looking into the rules."""


@pytest.fixture
def serve(home: Ekiden, sink: Sink, place: Path) -> Iterator[Serve]:
    home.routes(f":{sink.route}")
    home.control("rcpthosts", "here.example")
    write_bin(home.home)
    home.start()
    with ExitStack() as running:

        def start(name: str, *rules: str) -> int:
            port, table = free_port(), place / f"{name}.cdb"
            compile_rules(table, *rules)
            command = [program("tcpserver"), "-R", "-H", "-l", "mx.example", *give_up_root()]
            target = [f"{home.home}/bin/{name}"]
            server = subprocess.Popen([*command, "-x", str(table), "127.0.0.1", str(port), *target])
            running.callback(end, server)
            wait_until(lambda: accepts("127.0.0.1", port), "tcpserver listens")
            return port

        yield start


def give_up_root() -> list[str]:
    """Options that make tcpserver another user, as it is run; none if that one could not read our modules."""
    command = [sys.executable, "-c", "import ekiden.cli"]
    try:
        reads = (
            os.getuid() == 0 and subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[]).returncode == 0
        )
    except PermissionError:
        reads = False
    return ["-u", f"{NOBODY}", "-g", f"{NOBODY}"] if reads else []


def compile_rules(table: Path, *rules: str) -> None:
    run([program("tcprules"), table, table.with_suffix(".tmp")], input="".join(f"{rule}\n" for rule in rules))


def swaks(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [program("swaks"), "--server", f"127.0.0.1:{port}", "--helo", "client.example", "--from", "a@a.example"]
    return run([*command, *options], check=False)


def ask(port: int, data: bytes) -> bytes:
    """Everything that is answered until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_relay(serve: Serve, sink: Sink, place: Path) -> None:
    """Rules are changed without an interruption, as walkthrough W1, W2 and W23 have it."""
    port = serve("qmail-smtpd", ":allow")
    assert swaks(port, "--to", "b@there.example").returncode == 24
    assert swaks(port, "--to", "b@here.example", "--body", "one\n.two").returncode == 0
    compile_rules(place / "qmail-smtpd.cdb", '127.:allow,RELAYCLIENT=""', ":deny")
    assert swaks(port, "--to", "b@there.example", "--pipeline").returncode == 0
    received = sink.wait_for(2)
    assert [message.to for message in received] == [["b@here.example"], ["b@there.example"]]
    assert b"one\r\n.two" in received[0].content
    assert b"\r\nReceived: from unknown (HELO client.example) (127.0.0.1)\r\n  by mx.example with ESMTP; " in (
        b"\r\n" + received[0].content
    )
    compile_rules(place / "qmail-smtpd.cdb", "127.:deny", ":allow")
    assert swaks(port, "--to", "b@here.example").returncode != 0
    assert len(sink.wait_for(2)) == 2


def test_tls(serve: Serve, sink: Sink, home: Ekiden, certificate: Certificate) -> None:
    (home.home / "control" / "servercert.pem").write_bytes(certificate.both.read_bytes())
    done = swaks(serve("qmail-smtpd", ":allow"), "--to", "b@here.example", "--tls")
    assert done.returncode == 0 and "TLS started with cipher" in done.stdout
    assert b"with ESMTPS; " in sink.wait_for(1)[0].content


def test_qmtp(serve: Serve, sink: Sink) -> None:
    port = serve("qmail-qmtpd", ":allow")
    recipients = netstring(b"b@here.example") + netstring(b"c@there.example")
    package = netstring(b"\nSubject: q\n\n.x\n") + netstring(b"s@a.example") + netstring(recipients)
    first, second = texts(ask(port, package + b"x"))
    assert first.startswith(b"Kok ") and second.startswith(b"Dsorry")
    (message,) = sink.wait_for(1)
    assert message.sender.startswith("<s@a.example>") and message.to == ["b@here.example"]
    assert b"\r\nReceived: from unknown (127.0.0.1)\r\n  by mx.example with QMTP; " in b"\r\n" + message.content
    assert message.content.endswith(b"Subject: q\r\n\r\n.x\r\n")


def test_qmqp_with_our_client(serve: Serve, sink: Sink, home: Ekiden) -> None:
    """qmail-qmqpc, which may stand for qmail-queue, takes the message from qmail-inject."""
    port = serve("qmail-qmqpd", '127.:allow,RELAYCLIENT=""', ":deny")
    home.control("qmqpservers", f"127.0.0.1:{port}")
    environment = {**os.environ, "QMAILQUEUE": f"{home.home}/bin/qmail-qmqpc"}
    command = [home.home / "bin" / "qmail-inject", "-f", "s@a.example", "b@there.example"]
    run(command, input="Subject: q\n\n.x\n", env=environment)
    (message,) = sink.wait_for(1)
    assert message.sender.startswith("<s@a.example>") and message.to == ["b@there.example"]
    assert b"\r\n  by mx.example with QMQP; " in message.content
    assert message.content.endswith(b"\r\n\r\n.x\r\n")


def test_our_client_and_the_daemon(home: Ekiden, sink: Sink) -> None:
    port = free_port()
    home.routes(f":{sink.route}")
    home.control("listen", f"smtp 127.0.0.1:{home.port}", f"qmqp 127.0.0.1:{port}")
    home.control("tcp.qmqp", '127.0.0.1:allow,RELAYCLIENT=""', ":deny")
    home.control("qmqpservers", f"127.0.0.1:{port}")
    write_bin(home.home)
    home.start()
    environment = {**os.environ, "QMAILQUEUE": f"{home.home}/bin/qmail-qmqpc"}
    command = [home.home / "bin" / "qmail-inject", "-f", "s@a.example", "b@there.example"]
    run(command, input="Subject: q\n\nx\n", env=environment)
    (message,) = sink.wait_for(1)
    assert message.sender.startswith("<s@a.example>") and message.to == ["b@there.example"]
    assert b" with QMQP; " in message.content
    home.control("tcp.qmqp", ":allow")
    assert run(command, check=False, input="Subject: q\n\nx\n", env=environment).returncode == 111


def test_sendmail_bs_from_a_client(serve: Serve, sink: Sink, home: Ekiden) -> None:
    """swaks speaks with a program on its standard input and output, as mail readers do with sendmail -bs."""
    write_bin(home.home)
    command = [program("swaks"), "--pipe", f"{home.home}/bin/sendmail -bs", "--to", "b@there.example"]
    run([*command, "--from", "a@a.example", "--header", "Subject: bs"], check=True)
    (message,) = sink.wait_for(1)
    assert message.to == ["b@there.example"]
    assert b"(sendmail-bs@127.0.0.1)\r\n  by localhost with ESMTP; " in message.content

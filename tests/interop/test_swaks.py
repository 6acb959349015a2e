"""swaks, the postmaster's SMTP tester, through ekiden to a sink."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.ekiden import Ekiden
from tests.peers.processes import program, run
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow


def swaks(ekiden: Ekiden, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A swaks session with ekiden."""
    command = [program("swaks"), "--server", f"127.0.0.1:{ekiden.port}", "--helo", "client.example"]
    return run([*command, "--from", "a@a.example", *options], check=check)


@pytest.mark.parametrize("options", [(), ("--pipeline",), ("--protocol", "SMTP")], ids=["plain", "pipeline", "helo"])
def test_message_arrives(relay: Ekiden, sink: Sink, options: tuple[str, ...]) -> None:
    swaks(relay, "--to", "b@b.example", "--header", "Subject: from swaks", "--body", "first\n.second", *options)
    (received,) = sink.wait_for(1)
    assert received.header("Subject") == "from swaks"
    assert b"first\r\n.second" in received.content
    assert received.to == ["b@b.example"]


def test_several_recipients_in_one_transaction(relay: Ekiden, sink: Sink) -> None:
    swaks(relay, "--to", "b@b.example,c@b.example,d@b.example")
    (received,) = sink.wait_for(1)
    assert sorted(received.to) == ["b@b.example", "c@b.example", "d@b.example"]


def test_extensions_are_announced(relay: Ekiden) -> None:
    said = swaks(relay, "--to", "b@b.example", "--quit-after", "EHLO").stdout
    for extension in ("PIPELINING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES", "DSN"):
        assert extension in said


def test_tls(home: Ekiden, sink: Sink, certificate: Certificate) -> None:
    (home.home / "control/servercert.pem").write_bytes(certificate.both.read_bytes())
    home.routes(f":{sink.route}")
    home.start()
    said = swaks(home, "--to", "b@b.example", "--tls").stdout
    assert "TLS started with cipher" in said
    (received,) = sink.wait_for(1)
    assert b"with ESMTPS" in received.content


def test_large_attachment(relay: Ekiden, sink: Sink, place: Path) -> None:
    attachment = place / "attachment.bin"
    attachment.write_bytes(bytes(range(256)) * 8000)
    swaks(relay, "--to", "b@b.example", "--attach", f"@{attachment}")
    sink.wait_for(1)
    assert sink.record.stat().st_size > 0


def test_stranger_is_refused(home: Ekiden, sink: Sink) -> None:
    home.control("tcp.smtp", ":allow")
    home.routes(f":{sink.route}")
    home.start()
    refused = swaks(home, "--to", "b@b.example", check=False)
    assert refused.returncode == 24, refused.stdout
    assert "553" in refused.stdout
    assert sink.received() == []

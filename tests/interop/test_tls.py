"""STARTTLS with OpenSSL's client and with peers that try to smuggle."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.processes import program, run, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow


@pytest.fixture
def secure(home: Ekiden, sink: Sink, certificate: Certificate) -> Ekiden:
    """A started ekiden that offers TLS and sends everything to the sink."""
    (home.home / "control/servercert.pem").write_bytes(certificate.both.read_bytes())
    home.routes(f":{sink.route}")
    home.start()
    return home


def trusting(certificate: Certificate) -> ssl.SSLContext:
    """A client's context that knows the test certificate."""
    return ssl.create_default_context(cafile=str(certificate.certificate))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_client(secure: Ekiden, certificate: Certificate, version: str, place: Path) -> None:
    command = [program("openssl"), "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{secure.port}", version]
    command += ["-CAfile", str(certificate.certificate), "-verify_return_error", "-quiet"]
    said = run(command, input="EHLO client.example\r\nQUIT\r\n", check=False).stdout
    assert "221 " in said, said
    assert "STARTTLS" not in said.partition("250-ekiden.example")[2]


def test_message_over_tls(secure: Ekiden, sink: Sink, certificate: Certificate) -> None:
    with dialogue(secure.port) as talk:
        assert talk.say("STARTTLS")[:3] == "220"
        talk.start_tls(trusting(certificate))
        assert "STARTTLS" not in talk.say("EHLO client.example")
        assert talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@a.example", "b@b.example")[0] == "2"
    (received,) = sink.wait_for(1)
    assert b"with ESMTPS" in received.content


def test_plaintext_behind_starttls_is_not_obeyed(secure: Ekiden, sink: Sink, certificate: Certificate) -> None:
    """CVE-2011-0411: commands injected into the same packet as STARTTLS must not survive the handshake."""
    with dialogue(secure.port) as talk:
        talk.send(b"STARTTLS\r\nMAIL FROM:<evil@a.example>\r\nRCPT TO:<b@b.example>\r\n")
        try:
            assert talk.reply()[:3] in {"220", "501", "503", "554", "421"}
            talk.start_tls(trusting(certificate))
            assert talk.say("DATA")[0] == "5"
        except (EOFError, ssl.SSLError, ConnectionError):
            pass
    assert sink.received() == []


def test_session_starts_anew_after_tls(secure: Ekiden, certificate: Certificate) -> None:
    """RFC 3207 section 4.2: what was said before the handshake is forgotten."""
    with dialogue(secure.port) as talk:
        assert talk.say("MAIL FROM:<a@a.example>")[0] == "2"
        reply = talk.say("STARTTLS")
        if reply[:3] == "220":
            talk.start_tls(trusting(certificate))
            assert talk.say("RCPT TO:<b@b.example>")[0] == "5"


@pytest.mark.parametrize("setting", ["may", "always"])
def test_tls_to_the_next_hop(
    home: Ekiden, make_sink: Callable[..., Sink], certificate: Certificate, setting: str
) -> None:
    sink = make_sink("--certificate", str(certificate.both))
    home.routes(f":{sink.route}")
    home.control("tlsremote", setting)
    home.start()
    with dialogue(home.port) as talk:
        assert talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@a.example", "b@b.example")[0] == "2"
    (received,) = sink.wait_for(1)
    assert received.tls


def test_no_plaintext_where_tls_is_demanded(relay: Ekiden, sink: Sink) -> None:
    relay.control("tlsremote", "always")
    relay.reload()
    with dialogue(relay.port) as talk:
        assert talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@a.example", "b@b.example")[0] == "2"
    wait_until(lambda: " deferral: " in relay.log(), "the message waits")
    assert len(relay.queue()) == 1
    assert sink.received() == []

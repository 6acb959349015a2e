"""The peers themselves, without ekiden: what the other tests rely on."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable

import dns.message
import dns.query
import dns.rcode
import pytest
from tests.peers import nameserver
from tests.peers.certificate import Certificate
from tests.peers.dovecot import Dovecot
from tests.peers.nameserver import NameServer
from tests.peers.postfix import Postfix
from tests.peers.processes import wait_until
from tests.peers.sinks import CountingSink, Sink

pytestmark = pytest.mark.slow

MESSAGE = "From: a@a.example\r\nMessage-ID: <one@a.example>\r\nSubject: test\r\n\r\n.leading dot\r\nbody\r\n"


def send(port: int, recipient: str = "b@b.example") -> None:
    """One message by the standard library's client."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("a@a.example", [recipient], MESSAGE)


def test_sink_records_what_it_acknowledged(sink: Sink) -> None:
    send(sink.port)
    (received,) = sink.received()
    assert received.id == "one@a.example"
    assert received.content == MESSAGE.encode()
    assert received.to == ["b@b.example"]


def test_sink_misbehaves_on_request(make_sink: Callable[..., Sink]) -> None:
    sink = make_sink("--reply", "RCPT TO:<LATER=450 4.2.1 later", "--hangup", "DOT")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(sink.port, "later@b.example")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(sink.port)
    assert len(sink.received()) == 1


def test_sink_speaks_tls(make_sink: Callable[..., Sink], certificate: Certificate) -> None:
    sink = make_sink("--certificate", str(certificate.both))
    with smtplib.SMTP("127.0.0.1", sink.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(certificate.certificate)))
        client.sendmail("a@a.example", ["b@b.example"], MESSAGE)
    assert sink.received()[0].tls


def test_counting_sink_counts() -> None:
    sink = CountingSink()
    try:
        for _ in range(3):
            send(sink.port)
        wait_until(lambda: sink.count() == 3, "three messages counted")
    finally:
        sink.stop()


def test_postfix_relays(make_postfix: Callable[..., Postfix], sink: Sink) -> None:
    postfix = make_postfix(relayhost=sink.route)
    send(postfix.port)
    (received,) = sink.wait_for(1)
    assert received.header("Message-ID") == "<one@a.example>"
    wait_until(lambda: postfix.queue() == [], "Postfix's queue is empty")
    wait_until(lambda: "status=sent" in postfix.log(), "Postfix says so")


def test_postfix_ends_with_all_its_processes(make_postfix: Callable[..., Postfix], sink: Sink) -> None:
    postfix = make_postfix(relayhost=sink.route)
    send(postfix.port)
    assert len(postfix.pids()) > 3
    postfix.stop()
    assert postfix.pids() == set()


def test_nameserver_zone(make_nameserver: Callable[[list[str]], NameServer]) -> None:
    server = make_nameserver(
        [
            nameserver.mx("two.example", 10, "mx1.example"),
            nameserver.mx("two.example", 20, "mx2.example"),
            nameserver.host("mx1.example", "127.0.0.2"),
            nameserver.host("six.example", "::1"),
            nameserver.null_mx("null.example"),
            nameserver.alias("alias.example", "mx1.example"),
            nameserver.broken("broken.example"),
        ]
    )

    def ask(name: str, kind: str, seconds: float = 60) -> tuple[str, list[str]]:
        answer = dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", timeout=seconds, port=server.port)
        return dns.rcode.to_text(answer.rcode()), [str(item) for rrset in answer.answer for item in rrset]

    assert sorted(ask("two.example", "MX")[1]) == ["10 mx1.example.", "20 mx2.example."]
    assert ask("null.example", "MX") == ("NOERROR", ["0 ."])
    assert ask("mx1.example", "A") == ("NOERROR", ["127.0.0.2"])
    assert ask("mx1.example", "MX") == ("NOERROR", [])
    assert ask("six.example", "A") == ("NOERROR", [])
    assert ask("alias.example", "A")[1] == ["mx1.example.", "127.0.0.2"]
    assert ask("nowhere.example", "MX")[0] == "NXDOMAIN"
    with pytest.raises(dns.exception.Timeout):
        ask("www.broken.example", "MX", seconds=3)


def test_dovecot_takes_lmtp(dovecot: Dovecot) -> None:
    with smtplib.LMTP("127.0.0.1", dovecot.port) as client:
        client.sendmail("a@a.example", ["user@b.example"], MESSAGE)
    wait_until(lambda: len(dovecot.messages("user@b.example")) == 1, "the message is in the Maildir")

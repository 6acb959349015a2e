"""Postfix before and behind ekiden."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from email.message import Message

import pytest
from tests.peers.certificate import Certificate
from tests.peers.dialogue import dialogue
from tests.peers.dovecot import Dovecot
from tests.peers.ekiden import Ekiden
from tests.peers.postfix import Postfix
from tests.peers.processes import wait_until
from tests.peers.sink import body_hash
from tests.peers.sinks import Received, Sink

pytestmark = pytest.mark.slow

MakePostfix = Callable[..., Postfix]

# The virtual mailboxes are opened by Postfix's own delivery agent, as a user that is never root.
INBOXES = {
    "virtual_mailbox_domains": "inbox.example",
    "virtual_mailbox_base": "/",
    "virtual_uid_maps": "static:65534",
    "virtual_gid_maps": "static:65534",
}
EIGHT_BITS = "Subject: t\r\nMessage-ID: <e@a.example>\r\n\r\n.dot\r\ncaf\u00e9 \u99c5\u4f1d\r\n..\r\nend\r\n".encode()


def install_certificate(ekiden: Ekiden, certificate: Certificate) -> None:
    """Make ekiden offer TLS."""
    (ekiden.home / "control/servercert.pem").write_bytes(certificate.both.read_bytes())


def report_of(bounce: Received) -> Message:
    """The delivery report in a message from a mail system; AssertionError if there is none."""
    whole = message_from_bytes(bounce.content)
    assert whole.get_content_type() == "multipart/report", whole.get_content_type()
    assert whole.get_param("report-type") == "delivery-status"
    return next(part for part in whole.walk() if part.get_content_type() == "message/delivery-status")


def fields_of(bounce: Received) -> dict[str, str]:
    """The fields of a report about one recipient, its message fields included, names in lower case."""
    groups = report_of(bounce).get_payload()
    assert isinstance(groups, list)
    return {
        name.lower(): str(value) for group in groups if isinstance(group, Message) for name, value in group.items()
    }


def test_upstream(make_postfix: MakePostfix, relay: Ekiden, sink: Sink) -> None:
    postfix = make_postfix(relayhost=f"[127.0.0.1]:{relay.port}")
    postfix.send("a@a.example", ["b@b.example", "c@c.example"], "Subject: up\n\n.one\n..two\n")
    received = sink.wait_for(1)
    wait_until(lambda: postfix.queue() == [], "Postfix has handed over everything")
    assert {to for one in received for to in one.to} <= {"b@b.example", "c@c.example"}
    assert b".one\r\n..two\r\n" in received[0].content


def test_downstream_keeps_every_octet(make_postfix: MakePostfix, home: Ekiden, sink: Sink) -> None:
    postfix = make_postfix(relayhost=sink.route)
    home.routes(f":[127.0.0.1]:{postfix.port}")
    home.start()
    with dialogue(home.port) as talk:
        talk.say("EHLO client.example")
        assert talk.say("MAIL FROM:<a@a.example> BODY=8BITMIME")[0] == "2"
        assert talk.say("RCPT TO:<b@b.example>")[0] == "2"
        assert talk.say("DATA")[0] == "3"
        talk.send(EIGHT_BITS.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert talk.reply()[0] == "2"
    (received,) = sink.wait_for(1)
    assert received.hash == body_hash(EIGHT_BITS)
    wait_until(lambda: home.queue() == [], "ekiden's queue is empty")


def test_refusal_downstream_bounces_to_the_sender(make_postfix: MakePostfix, home: Ekiden, sink: Sink) -> None:
    postfix = make_postfix(relayhost=sink.route, virtual_mailbox_maps="inline:{joe@inbox.example=joe/}", **INBOXES)
    home.routes(f"inbox.example:[127.0.0.1]:{postfix.port}", f":{sink.route}")
    home.start()
    with dialogue(home.port) as talk:
        reply = talk.message(b"Subject: lost\r\n\r\nhello\r\n", "a@a.example", "nobody@inbox.example")
        assert reply[0] == "2", reply
    (bounce,) = sink.wait_for(1)
    assert bounce.sender.startswith("<>")
    assert bounce.to == ["a@a.example"]
    assert b"nobody@inbox.example" in bounce.content
    assert b"550 5.1.1" in bounce.content


def test_tls_to_postfix(make_postfix: MakePostfix, home: Ekiden, sink: Sink, certificate: Certificate) -> None:
    postfix = make_postfix(
        relayhost=sink.route,
        smtpd_tls_cert_file=str(certificate.certificate),
        smtpd_tls_key_file=str(certificate.key),
        smtpd_tls_security_level="encrypt",
        smtpd_tls_received_header="yes",
    )
    home.routes(f":[127.0.0.1]:{postfix.port}")
    home.start()
    with dialogue(home.port) as talk:
        assert talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@a.example", "b@b.example")[0] == "2"
    (received,) = sink.wait_for(1)
    assert b"using TLSv1.3" in received.content


def test_tls_from_postfix(make_postfix: MakePostfix, home: Ekiden, sink: Sink, certificate: Certificate) -> None:
    install_certificate(home, certificate)
    home.routes(f":{sink.route}")
    home.start()
    postfix = make_postfix(relayhost=f"[127.0.0.1]:{home.port}", smtp_tls_security_level="encrypt")
    postfix.send("a@a.example", ["b@b.example"], "Subject: secret\n\nhello\n")
    (received,) = sink.wait_for(1)
    assert b"with ESMTPS" in received.content


def test_dsn_parameters_pass_through(make_postfix: MakePostfix, home: Ekiden, sink: Sink) -> None:
    """Postfix asks for a success report with an envelope id; the sink, a DSN host, sees all of it."""
    home.routes(f":{sink.route}")
    home.start()
    postfix = make_postfix(relayhost=f"[127.0.0.1]:{home.port}")
    postfix.send("a@a.example", ["b@b.example"], "Subject: t\n\nhello\n", "-N", "success,failure", "-V", "QQ+314")
    (received,) = sink.wait_for(1)
    (recipient,) = received.recipients
    assert "ENVID=QQ+2B314" in received.sender
    assert "NOTIFY=SUCCESS,FAILURE" in recipient
    assert "ORCPT=rfc822;b@b.example" in recipient


def test_success_is_reported_where_dsn_ends(home: Ekiden, make_sink: Callable[..., Sink], sink: Sink) -> None:
    """The next hop does not know DSN: ekiden itself says that the message was relayed."""
    old = make_sink("--extensions", "PIPELINING,8BITMIME")
    home.routes(f"old.example:{old.route}", f":{sink.route}")
    home.start()
    with dialogue(home.port) as talk:
        talk.say("EHLO client.example")
        assert talk.say("MAIL FROM:<a@a.example> RET=HDRS ENVID=abc")[0] == "2"
        assert talk.say("RCPT TO:<b@old.example> NOTIFY=SUCCESS ORCPT=rfc822;orig@old.example")[0] == "2"
        assert talk.say("DATA")[0] == "3"
        talk.send(b"Subject: t\r\n\r\nsecret body\r\n.\r\n")
        assert talk.reply()[0] == "2"
    (bounce,) = sink.wait_for(1)
    fields = fields_of(bounce)
    assert fields["action"] == "relayed"
    assert fields["original-envelope-id"] == "abc"
    assert fields["original-recipient"].replace(" ", "") == "rfc822;orig@old.example"
    assert b"secret body" not in bounce.content


def test_bounce_is_understood_by_parsers(home: Ekiden, make_sink: Callable[..., Sink], sink: Sink) -> None:
    unwilling = make_sink("--reply", "RCPT=550 5.7.1 not for you")
    home.routes(f"no.example:{unwilling.route}", f":{sink.route}")
    home.start()
    with dialogue(home.port) as talk:
        assert talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@a.example", "b@no.example")[0] == "2"
    (bounce,) = sink.wait_for(1)
    fields = fields_of(bounce)
    assert fields["action"] == "failed"
    assert fields["status"] == "5.7.1"
    assert fields["final-recipient"].replace(" ", "") == "rfc822;b@no.example"
    assert "550 5.7.1 not for you" in fields["diagnostic-code"]


def test_into_dovecot_through_postfix(make_postfix: MakePostfix, home: Ekiden, dovecot: Dovecot) -> None:
    postfix = make_postfix(
        **INBOXES, virtual_mailbox_maps="static:all", virtual_transport=f"lmtp:inet:127.0.0.1:{dovecot.port}"
    )
    home.routes(f"inbox.example:[127.0.0.1]:{postfix.port}")
    home.start()
    with dialogue(home.port) as talk:
        assert talk.message(b"Subject: t\r\n\r\nhello\r\n", "a@a.example", "joe@inbox.example")[0] == "2"
    wait_until(lambda: len(dovecot.messages("joe@inbox.example")) == 1, "the message is in Dovecot's Maildir")
    assert b"hello" in dovecot.messages("joe@inbox.example")[0]

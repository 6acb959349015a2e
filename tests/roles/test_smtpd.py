"""The smtpd role through real sockets, with a stand-in for the queue that speaks frames."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.certificate import make_certificate

from ekiden.policy.acceptance import Acceptance

from .doorway import Doorway, Talk, doorway, wait_for


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doorway]:
    """A home with a queue; the test starts the role."""
    with doorway(tmp_path) as made:
        made.start_queue()
        yield made


def greeted(door: Doorway) -> Talk:
    talk = door.talk()
    assert talk.reply() == "220 mx.example ESMTP"
    assert talk.say(b"EHLO client.example\r\n").startswith("250-mx.example\n")
    return talk


def test_message(door: Doorway) -> None:
    door.start()
    talk = greeted(door)
    reply = talk.message(b"Subject: t\r\n\r\n..dot\r\n")
    assert re.fullmatch(rf"250 2\.0\.0 ok [0-9]{{10}} qp {door.role.pid} msg 1", reply)
    assert talk.say(b"QUIT\r\n") == "221 2.0.0 mx.example"
    assert talk.reply() == ""
    (taken,) = door.taken()
    date = rb"[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} -0000"
    assert re.fullmatch(
        rb"Received: \(qmail [0-9]+ invoked from network\); " + date + rb"\r\n"
        rb"Received: from unknown \(HELO client\.example\) \(127\.0\.0\.1\)\r\n"
        rb"  by mx\.example with ESMTP; " + date + rb"\r\n"
        rb"Subject: t\r\n\r\n\.dot\r\n",
        taken.content,
    )
    assert taken.envelope.sender == b"a@b.example"
    assert [each.address for each in taken.envelope.recipients] == [b"c@d.example"]
    assert taken.origin.protocol == "ESMTP"
    assert taken.origin.address == "127.0.0.1"
    assert taken.origin.helo == b"client.example"


def test_helo_is_made_harmless(door: Doorway) -> None:
    door.start()
    talk = door.talk()
    talk.reply()
    talk.say(b"HELO a(b)\xff c\r\n")
    assert talk.message(b"\r\n")[0] == "2"
    assert b"\r\nReceived: from unknown (HELO a?b???c) (127.0.0.1)\r\n" in door.taken()[0].content
    assert b" with SMTP; " in door.taken()[0].content


def test_everything_at_once_and_no_more(door: Doorway) -> None:
    """A client that pipelines all and ends its side still gets every reply."""
    door.start()
    talk = door.talk()
    transaction = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\r\nx\r\n.\r\n"
    talk.connection.sendall(b"EHLO x\r\n" + transaction * 20 + transaction[:-3])
    talk.connection.shutdown(socket.SHUT_WR)
    replies = talk.rest()
    assert replies.count("\n250 2.0.0 ok ") == 20
    assert replies.endswith("354 go ahead")
    assert len(door.taken()) == 20


def test_rules_and_rcpthosts(door: Doorway) -> None:
    (door.home / "control" / "tcp.smtp").write_text('127.0.0.1:allow,DATABYTES="1000"\n')
    door.start(rcpthosts=frozenset({b"d.example"}))
    talk = greeted(door)
    assert talk.message(b"\r\n", recipient="c@elsewhere.example").startswith("553 5.7.1 ")
    talk.say(b"RSET\r\n")
    assert talk.message(b"\r\n")[0] == "2"
    assert talk.say(b"MAIL FROM:<a@b> SIZE=1001\r\n")[:3] == "552"
    wait_for(
        lambda: "refuse: 127.0.0.1 helo client.example from <a@b.example> to <c@elsewhere.example>" in door.log()
    )
    (door.home / "control" / "tcp.smtp").write_text('127.0.0.:allow,RELAYCLIENT=""\n')

    def relays() -> bool:
        return greeted(door).message(b"\r\n", recipient="c@elsewhere.example")[0] == "2"

    wait_for(relays)
    (door.home / "control" / "tcp.smtp").write_text("127.:deny\n")
    wait_for(lambda: door.talk().reply() == "")


def test_recipients_beyond_the_limit_are_one_line_of_the_log(door: Doorway) -> None:
    """Nobody is sent away for them: with a line for each a single client could replace the whole log."""
    door.start(recipientsmax=100)
    talk = greeted(door)
    for sender in (b"a", b"b"):
        talk.connection.sendall(b"MAIL FROM:<%b@b.example>\r\n" % sender + b"RCPT TO:<c@d.example>\r\n" * 150)
        replies = [talk.reply()[:3] for _ in range(151)]
        assert (replies.count("250"), replies.count("452")) == (101, 50)
        assert talk.say(b"RSET\r\n")[0] == "2"
    wait_for(lambda: "from <b@b.example> to <c@d.example>: 452 4.5.3 too many recipients" in door.log())
    assert door.log().count("452 4.5.3") == 2


def test_large_message_goes_through_a_file(door: Doorway) -> None:
    door.start(inlinebytes=1000)
    content = b"Subject: large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 100_000
    talk = greeted(door)
    assert talk.message(content)[0] == "2"
    assert talk.message(b"small\r\n")[0] == "2"
    large, small = door.taken()
    assert large.spool
    assert large.content.endswith(content)
    assert large.size == len(large.content)
    assert not small.spool


def test_abandoned_large_message_leaves_no_file(door: Doorway) -> None:
    door.start(inlinebytes=1000)
    talk = greeted(door)
    for command in (b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n"):
        talk.say(command)
    talk.connection.sendall(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 10_000)
    wait_for(lambda: list((door.home / "spool").iterdir()))
    talk.connection.close()
    wait_for(lambda: not list((door.home / "spool").iterdir()))


def test_refused_content_leaves_no_file(door: Doorway) -> None:
    door.start(inlinebytes=1000, databytes=100_000)
    talk = greeted(door)
    assert talk.message((b"x" * 70 + b"\r\n") * 10_000).startswith("552 5.3.4 ")
    wait_for(lambda: not list((door.home / "spool").iterdir()))
    assert talk.message((b"x" * 70 + b"\r\n") * 1_000)[0] == "2"


@pytest.mark.parametrize("inline", [100_000, 0])
def test_loop(door: Doorway, inline: int) -> None:
    door.start(hopsmax=5, inlinebytes=inline)
    talk = greeted(door)
    field = b"Received: from here\r\n  by there\r\ndelivered-to: me\r\n"
    assert talk.message(field * 2 + b"\r\n" + field * 9)[0] == "2"
    assert talk.message(field * 3 + b"\r\n") == "554 5.4.6 too many hops, this message is looping"
    assert talk.message(b"\r\n" + field * 3)[0] == "2"


def test_queue_says_no(door: Doorway) -> None:
    door.start()
    talk = greeted(door)
    assert talk.message(b"\r\n", sender="reject@b") == "452 4.3.1 no room"
    wait_for(lambda: "from <reject@b> to <c@d.example>: 452 4.3.1 no room\n" in door.log())
    assert talk.message(b"\r\n")[0] == "2"


def test_queue_dies(door: Doorway) -> None:
    door.start()
    talk = greeted(door)
    assert talk.message(b"\r\n", sender="die@b").startswith("451 4.3.0 ")
    door.start_queue()

    def accepted() -> bool:
        talk.say(b"RSET\r\n")
        return talk.message(b"\r\n")[0] == "2"

    wait_for(accepted)


def test_queue_dies_with_a_large_message(door: Doorway) -> None:
    door.start(inlinebytes=1000)
    talk = greeted(door)
    content = b"x" * 70 + b"\r\n" + b"y\r\n" * 100_000
    assert talk.message(content, sender="die@b").startswith("451 4.3.0 ")
    assert talk.say(b"NOOP\r\n")[:3] == "250"


def test_fault_of_ours(door: Doorway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that we cannot go on with ends with 421, and the log tells why; others go on."""

    def sender(self: Acceptance, address: bytes, _login: bytes) -> bytes:
        if address == b"trouble@b":
            raise RuntimeError("unforeseen")
        return address

    monkeypatch.setattr(Acceptance, "sender", sender)
    door.start()
    other, talk = greeted(door), greeted(door)
    talk.connection.sendall(b"MAIL FROM:<trouble@b>\r\n")
    assert talk.rest() == "421 4.3.0 internal error, try again later"
    assert other.message(b"\r\n")[0] == "2"
    wait_for(lambda: "RuntimeError: unforeseen" in door.log())


def test_too_many_connections(door: Doorway) -> None:
    door.start(connectionsperclient=2)
    first, second, third = greeted(door), greeted(door), door.talk()
    busy = "421 4.7.0 too many connections from your address, try again later"
    assert third.rest() == busy
    wait_for(lambda: f"refuse: 127.0.0.1: {busy}\n" in door.log())
    first.say(b"QUIT\r\n")
    wait_for(lambda: door.talk().reply()[:3] == "220")
    assert second.say(b"NOOP\r\n")[:3] == "250"


REFUSED_BY_THE_ENGINE = [
    (b"MAIL FROM:<big@b> SIZE=1001\r\n", "<big@b> to <>: 552"),
    (b"MAIL FROM:two@@b\r\n", "<two@@b> to <>: 501 5.1.7"),
    (b"RCPT TO:<early@d>\r\n", "<> to <early@d>: 503"),
    (b"MAIL FROM:<a@b>\r\nRCPT TO:<c d@e>\r\n", "<a@b> to <c_d@e>: 501 5.1.3"),
    (b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d> X=1\r\n", "<a@b> to <c@d>: 555"),
    (b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nRCPT TO:<g@h>\r\n", "<a@b> to <g@h>: 452 4.5.3"),
]


@pytest.mark.parametrize(("said", "line"), REFUSED_BY_THE_ENGINE)
def test_who_was_refused_is_in_the_log(door: Doorway, said: bytes, line: str) -> None:
    """Also where the engine needs nobody's advice, so that an administrator who knows an address finds it."""
    door.start(databytes=1000, recipientsmax=2)
    talk = greeted(door)
    talk.say(said)
    wait_for(lambda: f"refuse: 127.0.0.1 helo client.example from {line} " in door.log())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"DATA\r\nlone\n\r\n.\r\n", "550 5.6.11 "),
        (b"DATA\r\n" + 100 * b"Received: x\r\n" + b"\r\n.\r\n", "554 5.4.6 "),
        (b"DATA\r\n" + 100 * (b"x" * 100 + b"\r\n") + b".\r\n", "552 5.3.4 "),
        (None, "421 4.4.2 connection lost before the message was complete\n"),
    ],
    ids=["lone LF", "too many hops", "too large", "connection lost"],
)
def test_a_message_that_is_not_taken_is_told_of_by_recipient(door: Doorway, content: bytes | None, why: str) -> None:
    door.start(databytes=5000)
    talk = greeted(door)
    for command in (b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"RCPT TO:<e@f>\r\n"):
        assert talk.say(command)[:3] == "250"
    if content is None:
        talk.connection.close()
    else:
        talk.connection.sendall(content)
    for recipient in ("c@d", "e@f"):
        wait_for(lambda to=recipient: f" from <a@b> to <{to}>: {why}" in door.log())  # type: ignore[misc]


def test_who_thinks_better_of_it_is_not_lost(door: Doorway) -> None:
    door.start()
    talk = greeted(door)
    talk.say(b"MAIL FROM:<a@b>\r\n")
    talk.say(b"QUIT\r\n")
    greeted(door).say(b"RCPT TO:<early@d>\r\n")
    wait_for(lambda: "early@d" in door.log())
    assert "connection lost" not in door.log()


def test_silence(door: Doorway) -> None:
    door.start(timeoutsmtpd=3)
    talk = greeted(door)
    assert talk.rest() == "421 4.4.2 timeout"
    wait_for(lambda: "refuse: 127.0.0.1 helo client.example from <> to <>: 421 4.4.2 timeout\n" in door.log())


@pytest.mark.parametrize("begun", [b"", b"NO", b"x" * 3000])
def test_a_command_in_drops(door: Doorway, begun: bytes) -> None:
    """Its octets do not make the time longer that a client has for all of it."""
    door.start(timeoutsmtpd=3)
    talk = greeted(door)
    talk.connection.sendall(begun)
    talk.connection.settimeout(0.2)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        talk.connection.sendall(b"O")
        try:
            assert talk.reply() == "421 4.4.2 timeout"
            return
        except TimeoutError:
            continue
    pytest.fail("there was no end")


def test_too_many_errors(door: Doorway) -> None:
    door.start(errorsmax=2)
    talk = greeted(door)
    talk.say(b"MAIL FROM:<a b@c>\r\n")
    talk.say(b"MAIL FROM:<a@b>\r\n")
    assert talk.say(b"RCPT TO:<>\r\n")[:3] == "501"
    assert talk.rest() == "421 4.7.0 too many errors"
    wait_for(lambda: "from <a@b> to <>: 421 4.7.0 too many errors\n" in door.log())


def test_long_session(door: Doorway) -> None:
    door.start(sessionseconds=3)
    talk = greeted(door)
    wait_for(lambda: not talk.say(b"NOOP\r\n").startswith("250"))


def test_stop(door: Doorway) -> None:
    """Idle clients are sent away, a transaction at hand is finished, nobody new comes in."""
    door.start()
    idle, busy = greeted(door), greeted(door)
    for command in (b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n"):
        busy.say(command)
    os.kill(door.role.pid, signal.SIGTERM)
    assert idle.rest() == "421 4.3.2 shutting down, try again later"
    wait_for(lambda: "421 4.3.2 shutting down, try again later\n" in door.log())
    assert busy.say(b"\r\nlate\r\n.\r\nMAIL FROM:<next@b>\r\n").startswith("250 2.0.0 ok ")
    assert busy.rest() == "421 4.3.2 shutting down, try again later"
    door.role.join(60)
    assert door.role.exitcode == 0
    assert len(door.taken()) == 1


def test_stop_does_not_wait_for_ever(door: Doorway) -> None:
    door.start(shutdownseconds=1)
    talk = greeted(door)
    talk.say(b"MAIL FROM:<a@b>\r\n")
    os.kill(door.role.pid, signal.SIGTERM)
    assert talk.rest() == "421 4.3.2 shutting down, try again later"
    door.role.join(60)
    assert door.role.exitcode == 0


def test_client_that_does_not_read(door: Doorway) -> None:
    """Replies pile up only so far: the role stops reading, and a later client is served."""
    door.start()
    talk = door.talk()
    talk.connection.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            talk.connection.sendall(b"HELP\r\n" * 10_000)
    assert greeted(door).message(b"\r\n")[0] == "2"


def trusting(home: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(home / "certificate.pem"))
    context.check_hostname = False
    return context


@pytest.mark.parametrize("service", ["smtp", "smtps"])
def test_tls(door: Doorway, service: str) -> None:
    certificate = make_certificate(door.home)
    door.start(service, servercert=str(certificate.both))  # type: ignore[arg-type]
    talk = door.talk()
    if service == "smtp":
        talk.reply()
        assert "STARTTLS" in talk.say(b"EHLO x\r\n")
        assert talk.say(b"STARTTLS\r\n")[:3] == "220"
    talk = Talk(trusting(door.home).wrap_socket(talk.connection))
    if service == "smtps":
        assert talk.reply()[:3] == "220"
    assert "STARTTLS" not in talk.say(b"EHLO x\r\n")
    assert talk.message(b"\r\n" + b"x" * 500_000 + b"\r\n")[0] == "2"
    assert talk.say(b"QUIT\r\n")[:3] == "221"
    assert b" with ESMTPS; " in door.taken()[0].content


def test_failed_handshake(door: Doorway) -> None:
    certificate = make_certificate(door.home)
    door.start("smtps", servercert=str(certificate.certificate), serverkey=str(certificate.key))
    talk = door.talk()
    talk.connection.sendall(b"EHLO this is no handshake\r\n")
    assert "220" not in talk.rest()
    talk = Talk(trusting(door.home).wrap_socket(door.talk().connection))
    assert talk.reply()[:3] == "220"


def test_too_many_handshakes(door: Doorway) -> None:
    """Who only connects where TLS comes first is held to the limits, too."""
    certificate = make_certificate(door.home)
    door.start("smtps", servercert=str(certificate.both), connectionsperclient=2)
    silent = [door.talk() for _ in range(3)]
    assert silent[2].rest() == ""
    wait_for(lambda: "refuse: 127.0.0.1: too many handshakes at once\n" in door.log())
    silent[0].connection.close()
    wait_for(lambda: "refuse: 127.0.0.1: TLS handshake failed: " in door.log())
    talk = Talk(trusting(door.home).wrap_socket(door.talk().connection))
    assert talk.reply()[:3] == "220"


def test_failed_starttls(door: Doorway) -> None:
    certificate = make_certificate(door.home)
    door.start(servercert=str(certificate.both))
    talk = greeted(door)
    assert talk.say(b"STARTTLS\r\n")[:3] == "220"
    talk.connection.sendall(b"MAIL FROM:<a@b>\r\n")
    assert "250" not in talk.rest()
    wait_for(lambda: "refuse: 127.0.0.1: TLS handshake failed: " in door.log())
    assert greeted(door).message(b"\r\n")[0] == "2"


def test_no_tls_without_a_certificate(door: Doorway) -> None:
    (door.home / "broken.pem").write_text("this is none")
    door.start("smtps", servercert=str(door.home / "broken.pem"))
    wait_for(lambda: "TLS is not offered: " in door.log())
    wait_for(lambda: "smtps" in door.log())
    with pytest.raises(ConnectionError):
        door.talk()


def test_proxy(door: Doorway) -> None:
    door.start(proxyclients=("127.0.0.0/8",))
    talk = door.talk()
    talk.connection.sendall(b"PROXY TCP4 192.0.2.")
    talk.connection.sendall(b"9 192.0.2.2 56324 25\r\nEHLO x\r\n")
    assert talk.reply()[:3] == "220"
    assert talk.reply()[:3] == "250"
    assert talk.message(b"\r\n")[0] == "2"
    assert door.taken()[0].origin.address == "192.0.2.9"
    bad = door.talk()
    assert bad.say(b"EHLO x\r\n") == ""
    wait_for(lambda: "refuse: 127.0.0.1: no PROXY header" in door.log())


@pytest.mark.parametrize("proxies", [(), ("192.0.2.1",)], ids=["plain", "proxied"])
def test_clients_wait_while_there_are_no_descriptors(door: Doorway, proxies: tuple[str]) -> None:
    """The role says so once and serves who is there; all others get in, one after the other."""
    mine, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = len(os.listdir("/proc/self/fd")) + 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        door.start(proxyclients=proxies)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (mine, hard))
    talks = [greeted(door), *(door.talk() for _ in range(50))]
    wait_for(lambda: "unable to accept a connection: Too many open files" in door.log())
    assert f"raise the limit of open files, {limit} for this process" in door.log()
    assert talks[0].message(b"\r\n")[0] == "2"
    # Large enough for a spool file, which needs a descriptor.
    assert talks[0].message(b"x" * 70 + b"\r\n" + 10_000 * (70 * b"y" + b"\r\n"))[0] == "2"
    talks.pop(0).connection.close()
    for talk in talks:
        assert talk.reply()[:3] == "220"
        talk.connection.close()
    assert door.log().count("unable to accept") == 1


def test_proxy_before_tls(door: Doorway) -> None:
    """The beginning of the handshake may come in the header's own packet."""
    certificate = make_certificate(door.home)
    door.start("smtps", servercert=str(certificate.both), proxyclients=("127.0.0.1",))
    talk = door.talk()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = trusting(door.home).wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        secure.do_handshake()
    talk.connection.sendall(b"PROXY TCP4 192.0.2.9 192.0.2.2 56324 25\r\n" + outgoing.read())
    while True:
        incoming.write(talk.connection.recv(65536))
        try:
            secure.do_handshake()
            break
        except ssl.SSLWantReadError:
            pass
    talk.connection.sendall(outgoing.read())
    while True:
        try:
            assert secure.read(100).startswith(b"220 ")
            return
        except ssl.SSLWantReadError:
            incoming.write(talk.connection.recv(65536))

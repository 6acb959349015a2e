"""LMTP (RFC 2033) in both directions: ekiden behind another mail system as its mail store, and in front of one."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.peers.dovecot import Dovecot
from tests.peers.ekiden import Ekiden
from tests.peers.postfix import Postfix
from tests.peers.processes import free_port, wait_until

pytestmark = pytest.mark.slow

MESSAGE = "From: a@a.example\nSubject: over\n\n.dot\ncaf\u00e9\n"
WIRE = MESSAGE.replace("\n", "\r\n").encode()


def listen(ekiden: Ekiden, *lines: str) -> None:
    """Listeners beside the SMTP one."""
    ekiden.control("listen", f"smtp 127.0.0.1:{ekiden.port}", *lines)


def files(maildir: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((maildir / "new").iterdir())]


def test_postfix_hands_over_to_our_mailboxes(make_postfix: Callable[..., Postfix], home: Ekiden) -> None:
    inboxes = {name: home.make_inbox(name) for name in ("jiro", "haruo")}
    port = free_port()
    listen(home, f"lmtp 127.0.0.1:{port}")
    home.start()
    postfix = make_postfix(relay_domains="ekiden.example", relay_transport=f"lmtp:inet:127.0.0.1:{port}")
    postfix.send("a@a.example", ["jiro@ekiden.example", "haruo@ekiden.example"], MESSAGE)
    for inbox in inboxes.values():
        wait_until(lambda inbox=inbox: len(files(inbox)) == 1, "the message is in the Maildir")
        (content,) = files(inbox)
        assert b"with LMTP;" in content
        assert content.endswith(MESSAGE.partition("\n\n")[2].encode())
    wait_until(lambda: postfix.queue() == [], "Postfix has handed over everything")


def test_each_recipient_has_its_answer(home: Ekiden) -> None:
    home.make_inbox("jiro")
    path = home.home / "run" / "store"
    listen(home, f"lmtp {path}")
    home.start()
    with smtplib.LMTP(str(path)) as client:
        client.ehlo("client.example")
        assert client.mail("a@a.example")[0] == 250
        codes = [client.rcpt(to)[0] for to in ("jiro@ekiden.example", "x@far.example", "joe@ekiden.example")]
        assert codes == [250, 553, 250]
        assert client.data(WIRE)[0] == 250
        assert client.getreply()[0] == 250
        assert client.noop()[0] == 250


def test_dovecot_is_the_mail_store(home: Ekiden, dovecot: Dovecot) -> None:
    home.routes(f"store.example:lmtp:[127.0.0.1]:{dovecot.port}")
    home.start()
    home.command("check")
    said = home.command("route", "joe@store.example").stdout
    assert f"[127.0.0.1] port {dovecot.port} by LMTP" in said
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail("a@a.example", ["joe@store.example", "eve@store.example"], WIRE)
    for user in ("joe@store.example", "eve@store.example"):
        wait_until(lambda user=user: len(dovecot.messages(user)) == 1, f"the message is in {user}'s Maildir")
    assert b".dot" in dovecot.messages("joe@store.example")[0]
    wait_until(lambda: home.queue() == [], "the queue is empty")


def test_through_a_unix_socket(home: Ekiden, place: Path) -> None:
    store = Ekiden(place / "store", "store.example")
    store.configure()
    inbox = store.make_inbox("joe")
    path = store.home / "run" / "lmtp"
    listen(store, f"lmtp {path}")
    home.routes(f"store.example:lmtp:{path}")
    home.start()
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail("a@a.example", ["joe@store.example"], WIRE)
    # Nobody listens there yet.
    wait_until(lambda: " deferral: " in home.log(), "the message waits")
    try:
        store.start()
        home.command("queue", "flush")
        wait_until(lambda: len(files(inbox)) == 1, "the message is in the Maildir")
        wait_until(lambda: home.queue() == [], "the queue is empty")
    finally:
        store.stop()

"""The tricks of open-relay testers: none gets mail to a foreign host, whoever is asked to accept it."""

from __future__ import annotations

import os

import pytest
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

VICTIM = "victim@elsewhere.example"

RECIPIENTS = [
    f"<{VICTIM}>",
    VICTIM,
    "<victim>",
    "victim",
    f'<"{VICTIM}">',
    f'"{VICTIM}"',
    "<victim%elsewhere.example@ekiden.example>",
    "<victim%elsewhere.example>",
    "<victim%elsewhere.example@[127.0.0.1]>",
    "<victim%elsewhere.example@localhost>",
    '<"victim%elsewhere.example">',
    f'<"{VICTIM}"@ekiden.example>',
    f'<"{VICTIM}"@[127.0.0.1]>',
    f"<{VICTIM}@ekiden.example>",
    f"<{VICTIM}@[127.0.0.1]>",
    f"<@ekiden.example:{VICTIM}>",
    f"<@[127.0.0.1]:{VICTIM}>",
    f"<@elsewhere.example,@ekiden.example:{VICTIM}>",
    "<elsewhere.example!victim>",
    "<elsewhere.example!victim@ekiden.example>",
    "<elsewhere.example!victim@[127.0.0.1]>",
    "<ekiden.example!elsewhere.example!victim>",
    "<victim@elsewhere.example.>",
    "<victim@ELSEWHERE.example>",
    "<victim@[192.0.2.99]>",
    "<victim@[IPv6:2001:db8::99]>",
    "<victim@3221226083>",
    "<victim@192.0.2.99>",
    "<victim@elsewhere.example@>",
    "<victim@elsewhere.example\0@ekiden.example>",
    "<victim@elsewhere.example\x7f@ekiden.example>",
    f"<{VICTIM}>,<postmaster@ekiden.example>",
    f"<postmaster@ekiden.example>,<{VICTIM}>",
    f"<postmaster@ekiden.example> {VICTIM}",
    f"< {VICTIM} >",
    f"<{VICTIM}",
    "<victim@ekiden.example.elsewhere.example>",
    "<victim@elsewhere.example ekiden.example>",
    "<victim@notekiden.example>",
]

SENDERS = [
    "<sender@outside.example>",
    "<>",
    "<sender@ekiden.example>",
    "<postmaster@ekiden.example>",
    "<sender@[127.0.0.1]>",
    "<sender@localhost>",
    f"<{VICTIM}>",
    "<sender>",
]


TRICKS = [(SENDERS[0], recipient) for recipient in RECIPIENTS]
TRICKS += [(sender, recipient) for sender in SENDERS[1:] for recipient in (RECIPIENTS[0], RECIPIENTS[6])]
"""Each recipient form with the plain sender, and each sender form with the plainest tricks."""


def test_every_trick_is_refused(home: Ekiden, sink: Sink) -> None:
    """Everything that would leave the house leaves for the sink; nothing must.

    A trick may be accepted where it is an odd name for a local mailbox: then it must bounce, not travel.
    """
    home.control("tcp.smtp", ":allow")
    home.control("errorsmax", "1000")
    home.routes(f":{sink.route}")
    # Local names are nobody's who has no .qmail file: mail to them bounces, also on a machine without the user alias.
    user = os.getuid() or NOBODY
    (home.home / "users" / "assign").write_text(f"+:nobody:{user}:{user}:{home.home.parent}:-::\n.\n")
    home.command("qmail-newu")
    home.start()
    for sender, recipient in TRICKS:
        attempt(home.port, sender, recipient)
    wait_until(lambda: not home.queue(), "an empty queue")
    travelled = [to for message in sink.received() for to in message.to if message.header("Subject") == "relayed"]
    assert travelled == []
    foreign = [to for message in sink.received() for to in message.to if "elsewhere" in to]
    assert len(foreign) <= len([sender for sender in SENDERS if VICTIM in sender]), "bounces used for relaying"


def test_plain_foreign_recipient_gets_qmails_reply(home: Ekiden) -> None:
    home.control("tcp.smtp", ":allow")
    home.start()
    with dialogue(home.port) as talk:
        assert talk.say("MAIL FROM:<sender@outside.example>")[0] == "2"
        reply = talk.say(f"RCPT TO:<{VICTIM}>")
    assert reply.startswith("553 ")
    assert "rcpthosts" in reply


def attempt(port: int, sender: str, recipient: str, host: str = "127.0.0.1") -> None:
    """Try one trick; what is accepted has the subject ``relayed``."""
    with dialogue(port, host=host) as talk:
        if talk.say(f"MAIL FROM:{sender}")[0] != "2":
            return
        reply = talk.say(f"RCPT TO:{recipient}")
        assert reply[:3] != "421", f"a fault of ours, not a refusal: {recipient}: {reply}"
        if reply[0] == "2":
            assert talk.say("DATA")[0] == "3"
            talk.send(b"Subject: relayed\r\n\r\nspam\r\n.\r\n")
            assert talk.reply()[0] in "25"

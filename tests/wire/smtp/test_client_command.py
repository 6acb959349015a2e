"""The SMTP client's commands: whatever it is given, a command is one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ekiden.base.envelope import Envelope, Recipient
from ekiden.base.outcome import Verdict
from ekiden.wire.smtp.client import Client, Done, Lost, State
from ekiden.wire.smtp.client_command import Extensions, hello_command, mail_command, rcpt_command

EVERYTHING = Extensions(True, True, 0, True, True, True, False, True, True)
EVIL = [b"a\r\nDATA", b"a\nb", b"a\rb", b"a\0b", b"\r\n"]
GREETING = b"220 mx.example\r\n"
OFFER = b"250-mx.example\r\n250-PIPELINING\r\n250 DSN\r\n"


def commands(value: bytes) -> list[Callable[[], bytes]]:
    """Each command with ``value`` in one of the places that something from outside can take."""
    sender = Envelope(b"a@a.example", [])
    return [
        lambda: mail_command(Envelope(value, []), 1, 0, False, EVERYTHING),
        lambda: mail_command(Envelope(b"a@" + value, []), 1, 0, False, EVERYTHING),
        lambda: mail_command(Envelope(sender.sender, [], ret=value), 1, 0, False, EVERYTHING),
        lambda: mail_command(Envelope(sender.sender, [], envid=value), 1, 0, False, EVERYTHING),
        lambda: rcpt_command(Recipient(value), EVERYTHING),
        lambda: rcpt_command(Recipient(value), Extensions()),
        lambda: rcpt_command(Recipient(b"a@" + value), EVERYTHING),
        lambda: rcpt_command(Recipient(b"b@b.example", 0, value), EVERYTHING),
        lambda: hello_command(b"EHLO", value),
    ]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("place", range(len(commands(b""))))
def test_a_line_in_any_parameter_is_refused(evil: bytes, place: int) -> None:
    with pytest.raises(ValueError):
        commands(evil)[place]()


@pytest.mark.parametrize("place", [2, 3, 7, 8])
def test_a_parameter_is_one_word(place: int) -> None:
    with pytest.raises(ValueError, match="not one word"):
        commands(b"FULL BODY=BINARYMIME")[place]()


@given(st.binary(max_size=20), st.integers(0, len(commands(b"")) - 1))
@example(b"a\x85b", 3)
def test_whatever_is_written_is_one_line(value: bytes, place: int) -> None:
    try:
        command = commands(value)[place]()
    except ValueError:
        return
    assert command.endswith(b"\r\n")
    assert not set(command[:-2]) & set(b"\r\n\0")


def test_a_name_that_is_no_name_ends_the_session() -> None:
    client = Client("192.0.2.1", b"me\r\nMAIL FROM:<a@b>")
    client.receive(GREETING)
    event = client.next_event()
    assert isinstance(event, Lost)
    assert event.outcome.verdict == Verdict.DEFERRED
    assert "My own name cannot be written" in event.outcome.text
    assert client.output() == b"QUIT\r\n"
    assert client.state is State.CLOSED


@pytest.mark.parametrize(
    ("offered", "orcpt"),
    [
        (Extensions(dsn=True, smtputf8=True), "utf-8;駅@b.example".encode()),
        (Extensions(dsn=True), b"utf-8;\\x{99C5}@b.example"),
    ],
)
def test_an_original_recipient_in_utf_8_is_written_as_the_server_takes_it(offered: Extensions, orcpt: bytes) -> None:
    recipient = Recipient(b"b@b.example", 0, "utf-8;駅@b.example".encode())
    assert rcpt_command(recipient, offered) == b"RCPT TO:<b@b.example> ORCPT=" + orcpt + b"\r\n"


def test_a_recipient_that_needs_smtputf8_fails_alone_where_it_is_not_offered() -> None:
    client = Client("192.0.2.1", b"me.example")
    client.receive(GREETING + OFFER)
    client.next_event()
    client.output()
    recipients = [Recipient("駅@b.example".encode()), Recipient(b"good@b.example")]
    client.send(Envelope(b"a@a.example", recipients), b"\r\n", 2, utf8=True)
    assert client.output() == b"MAIL FROM:<a@a.example>\r\nRCPT TO:<good@b.example>\r\nDATA\r\n"
    client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
    event = client.next_event()
    assert isinstance(event, Done)
    assert [outcome.status for outcome in event.outcomes] == ["5.6.7", "2.0.0"]


def test_what_cannot_be_written_fails_alone() -> None:
    client = Client("192.0.2.1", b"me.example")
    client.receive(GREETING + OFFER)
    client.next_event()
    client.output()
    recipients = [Recipient(b"good@b.example"), Recipient(b"bad@b.example", 0, b"rfc822;x\r\nRSET")]
    client.send(Envelope(b"a@a.example", recipients), b"\r\n", 2)
    assert client.output() == b"MAIL FROM:<a@a.example>\r\nRCPT TO:<good@b.example>\r\nDATA\r\n"
    client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
    event = client.next_event()
    assert isinstance(event, Done)
    assert [outcome.verdict for outcome in event.outcomes] == [Verdict.DELIVERED, Verdict.FAILED]

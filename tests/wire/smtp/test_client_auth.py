"""The SMTP client's login: each dialogue whole, octet by octet, and with more behind it than was asked for."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.envelope import Envelope, Recipient
from ekiden.base.outcome import Verdict
from ekiden.wire import sasl
from ekiden.wire.sasl_client import Credentials, Exchange, choose
from ekiden.wire.smtp.client import Client, Done, Event, Lost, Ready, StartTls, State

WORD = b"secret word"
JIRO = Credentials(b"jiro", WORD, b"clientnonce", 100_000)
KEYS = sasl.scram_keys(WORD, b"salt", 4096)
BARE = b"n=jiro,r=clientnonce"
CHALLENGE = sasl.scram_challenge(b"clientnonceSERVER", KEYS.salt, KEYS.iterations)


def encoded(message: bytes) -> str:
    return b64encode(message).decode()


def scram() -> Exchange:
    exchange = choose([b"PLAIN", b"SCRAM-SHA-256"], JIRO)
    assert exchange is not None
    return exchange


def final() -> tuple[bytes, bytes]:
    """The client's last message and the server's signature, as our server sees them."""
    exchange = scram()
    assert exchange.first == b"n,," + BARE
    answer = exchange.answer(CHALLENGE)
    first = sasl.parse_scram_first(exchange.first)
    signature = sasl.scram_signature(KEYS, *sasl.parse_scram_final(answer, first, CHALLENGE, b"clientnonceSERVER"))
    assert signature is not None, "the proof is right"
    return answer, signature


FINAL, SIGNATURE = final()

NAMED = b"\0jiro\0secret word"
BEGINNING = "S: 220 mx.example\nC: EHLO me.example\nS: 250-mx.example\n"
PLAIN = BEGINNING + f"S: 250 AUTH LOGIN PLAIN CRAM-MD5\nC: AUTH PLAIN {encoded(NAMED)}\n"
LOGIN = BEGINNING + "S: 250 auth login\nC: AUTH LOGIN\n"
SCRAM_BEGINNING = BEGINNING + f"S: 250 AUTH PLAIN SCRAM-SHA-256\nC: AUTH SCRAM-SHA-256 {encoded(b'n,,' + BARE)}\n"
SCRAM = SCRAM_BEGINNING + f"S: 334 {encoded(CHALLENGE)}\nC: {encoded(FINAL)}\n"
ENDLESS = SCRAM_BEGINNING + f"S: 334 {encoded(sasl.scram_challenge(b'clientnonceSERVER', KEYS.salt, 100_001))}"

READY = [
    ("plain", PLAIN + "S: 235 2.7.0 ok"),
    (
        "login",
        LOGIN
        + f"S: 334 {encoded(b'Username:')}\nC: {encoded(b'jiro')}\nS: 334 {encoded(b'Password:')}\n"
        + f"C: {encoded(WORD)}\nS: 235 ok",
    ),
    ("scram", SCRAM + f"S: 334 {encoded(b'v=' + b64encode(SIGNATURE))}\nC: \nS: 235 ok"),
]
REFUSED = [
    ("nothing offered", BEGINNING + "S: 250 HELP\nC: QUIT", "mechanisms offered: none. (#4.7.0)"),
    ("nothing known", BEGINNING + "S: 250 AUTH GSSAPI\nC: QUIT", "mechanisms offered: GSSAPI. (#4.7.0)"),
    ("no ESMTP", "S: 220 x\nC: EHLO me.example\nS: 500 what\nC: HELO me.example\nS: 250 x\nC: QUIT", "offered: none"),
    ("wrong password", PLAIN + "S: 535 5.7.8 no\nC: QUIT", "login failed.\nRemote host said: 535 5.7.8 no\n"),
    ("later", PLAIN + "S: 454 4.7.0 later\nC: QUIT", "login failed.\nRemote host said: 454 4.7.0 later\n"),
    ("gone", PLAIN + "S: 421 4.3.2 bye", "connection died. (#4.4.2)\nRemote host said: 421 4.3.2 bye\n"),
    ("a challenge to PLAIN", PLAIN + "S: 334 ", "PLAIN has no challenge"),
    ("endless", ENDLESS, "it asks for 100001 iterations, more than remoteauthiterations"),
    ("no base64", SCRAM + "S: 334 ?", "not base64"),
    ("several lines", LOGIN + "S: 334-VXNlcm5hbWU6\nS: 334 VXNlcm5hbWU6", "not base64"),
    ("a forged signature", SCRAM + f"S: 334 {encoded(b'v=AAAA')}", "the server does not know the password"),
    ("no signature", SCRAM + "S: 235 welcome", "It lets us in without knowing the password."),
    ("too early", LOGIN + "S: 235 welcome", "It lets us in without knowing the password."),
]


def play(script: str, size: int, trailing: bytes = b"") -> tuple[Client, list[Event]]:
    """What happened; the client's words are compared with the script's."""
    client = Client("192.0.2.25", b"me.example", "mx.example", credentials=JIRO)
    events: list[Event] = []
    said = b""
    blocks: list[tuple[str, bytes]] = []
    for line in script.splitlines():
        side, text = line[0], line[3:].encode() + b"\r\n"
        blocks.append((side, (blocks.pop()[1] if blocks and blocks[-1][0] == side else b"") + text))
    for number, (side, text) in enumerate(blocks):
        if side == "C":
            assert said == text
            said = b""
            continue
        assert said == b""
        data = text + (trailing if number == len(blocks) - 1 else b"")
        for start in range(0, len(data), size):
            client.receive(data[start : start + size])
            while (event := client.next_event()) is not None:
                events.append(event)
            said += client.output()
    assert said == b""
    return client, events


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("name", "script"), READY, ids=[name for name, _ in READY])
def test_a_login(name: str, script: str, size: int) -> None:
    client, events = play(script, size)
    assert events == [Ready()]
    assert client.state is State.READY
    client.send(Envelope(b"a@b", [Recipient(b"c@d")]), b"", 0)
    assert client.output() == b"MAIL FROM:<a@b>\r\n"


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("trailing", [b"250 and more\r\n", b"2", b"garbage\r\n"])
@pytest.mark.parametrize(("name", "script"), READY, ids=[name for name, _ in READY])
def test_nothing_is_sent_to_a_server_that_speaks_unasked(name: str, script: str, trailing: bytes, size: int) -> None:
    client, events = play(script, size, trailing)
    if client.state is State.READY:
        client.send(Envelope(b"a@b", [Recipient(b"c@d")]), b"", 0)
        events.append(client.next_event())  # type: ignore[arg-type]
    assert isinstance(events[-1], Lost | Done)
    assert b"MAIL" not in client.output()


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("name", "script", "text"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_whatever_goes_wrong_is_deferred(name: str, script: str, text: str, size: int) -> None:
    client, events = play(script, size)
    (lost,) = events
    assert isinstance(lost, Lost)
    assert lost.outcome.verdict == Verdict.DEFERRED
    assert text in lost.outcome.text
    assert WORD.decode() not in lost.outcome.text
    assert client.state is State.CLOSED


def test_no_password_is_said_before_tls() -> None:
    client = Client("192.0.2.25", b"me.example", "mx.example", "always", credentials=JIRO)
    client.receive(b"220 x\r\n250-x\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
    assert client.output() == b"EHLO me.example\r\nSTARTTLS\r\n"
    client.receive(b"220 go\r\n")
    assert isinstance(client.next_event(), StartTls)
    client.tls_established()
    client.receive(b"250-x\r\n250 AUTH PLAIN\r\n")
    assert client.output() == b"EHLO me.example\r\nAUTH PLAIN AGppcm8Ac2VjcmV0IHdvcmQ=\r\n"


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([CHALLENGE, b"v=AAAA", b""])), max_size=3))
def test_no_server_is_believed_that_does_not_know_the_password(challenges: list[bytes]) -> None:
    exchange = scram()
    for challenge in challenges:
        try:
            answer = exchange.answer(challenge)
        except sasl.Malformed:
            break
        assert WORD not in answer
    assert not exchange.done

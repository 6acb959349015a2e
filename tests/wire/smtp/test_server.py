"""The SMTP server engine beyond transcripts: any input in any pieces, answers given late, limits of memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.reply import Reply
from ekiden.wire.dialogue import PIPELINE_OCTETS
from ekiden.wire.sasl_event import LINE_OCTETS
from ekiden.wire.smtp.events import (
    Content,
    DataBegins,
    Ended,
    EndOfMessage,
    Hello,
    Login,
    Mail,
    Rcpt,
    Refusal,
    StartTls,
)
from ekiden.wire.smtp.profile import Profile
from ekiden.wire.smtp.server import COMMANDS, Server
from ekiden.wire.smtp.states import State

from .dialogue import Player

FRAGMENTS = [
    b"HELO x\r\n",
    b"EHLO x\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"MAIL FROM:<a@b> BODY=BINARYMIME\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"RCPT TO:<c@refused.example>\r\n",
    b"DATA\r\n",
    b"DATA\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r",
    b"\n",
    b"\r\n",
    b"..\r\n",
    b"text\r\n",
    b"REFUSE ME\r\n",
    b"BDAT 3\r\n",
    b"BDAT 7 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT x\r\n",
    b"RSET\r\n",
    b"NOOP\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"x" * 120,
    b"\x00\xff",
]

inputs = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=6)), max_size=25).map(b"".join)
profiles = st.builds(
    Profile,
    greeting=st.just("mx.example"),
    size_limit=st.sampled_from([0, 20]),
    recipients=st.sampled_from([1, 3]),
    errors=st.sampled_from([3, 1000]),
    command_octets=st.just(100),
    line_octets=st.sampled_from([0, 8]),
    normalise=st.booleans(),
)


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    at = [0, *sorted(border % (len(data) + 1) for border in borders), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(at)]


@given(profiles, inputs, st.lists(st.integers(0, 10_000), max_size=8))
def test_pieces_do_not_matter(profile: Profile, data: bytes, borders: list[int]) -> None:
    whole, pieces, octets = Player(profile), Player(profile), Player(profile)
    whole.say(data)
    for piece in cut(data, borders):
        pieces.say(piece)
    for octet in data:
        octets.say(bytes([octet]))
    assert whole.output == pieces.output == octets.output
    assert whole.messages == pieces.messages == octets.messages
    assert whole.ended == pieces.ended == octets.ended
    assert essence(whole) == essence(pieces) == essence(octets)


def essence(player: Player) -> list[object]:
    """Events without the pieces of content."""
    kept: list[object] = []
    for event in player.events:
        if isinstance(event, EndOfMessage):
            kept.append(EndOfMessage)
        elif not isinstance(event, Content):
            kept.append(event)
    return kept


@given(profiles, inputs)
def test_taken_messages_are_well_formed(profile: Profile, data: bytes) -> None:
    player = Player(profile)
    player.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + data)
    for message in player.messages:
        content = message.partition(b": ")[2]
        if b"BINARYMIME" not in data:
            assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
            assert not content or content.endswith(b"\r\n")
        assert not profile.size_limit or len(content) <= profile.size_limit or profile.normalise


def to_content(profile: Profile) -> Server:
    """A server that waits for content."""
    server = Server(profile)
    server.receive(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
    while server.next_event() is not None:
        server.accept()
    server.output()
    return server


def test_nothing_is_parsed_while_an_answer_is_owed() -> None:
    server = Server(Profile("mx.example"))
    server.receive(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
    assert isinstance(server.next_event(), Hello)
    assert server.answering
    assert server.next_event() is None
    server.receive(b"DATA\r\n")
    assert server.output() == b""
    server.accept()
    assert isinstance(server.next_event(), Mail)
    server.reply(Reply(451, "4.3.0", "later"))
    refusals = [server.next_event(), server.next_event()]
    assert all(isinstance(event, Refusal) for event in refusals)
    assert server.next_event() is None


def test_a_question_can_be_answered_in_other_words() -> None:
    server = to_content(Profile("mx.example"))
    server.receive(b".\r\n")
    assert isinstance(server.next_event(), EndOfMessage)
    server.accept(b"250 2.0.0 ok 1 qp 2\r\n")
    assert server.output() == b"250 2.0.0 ok 1 qp 2\r\n"


def test_data_may_be_refused_and_the_transaction_goes_on() -> None:
    server = Server(Profile("mx.example"))
    server.receive(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
    for expected in (Mail, Rcpt, DataBegins):
        event = server.next_event()
        assert isinstance(event, expected)
        if expected is DataBegins:
            server.reply(Reply(451, "4.3.0", "later"))
        else:
            server.accept()
    server.receive(b"DATA\r\n")
    assert isinstance(server.next_event(), DataBegins)


def test_answering_without_a_question_is_the_shells_fault() -> None:
    with pytest.raises(AssertionError):
        Server(Profile("mx.example")).accept()


def test_the_shell_is_told_to_stop_reading() -> None:
    server = Server(Profile("mx.example"))
    server.receive(b"EHLO x\r\n" + b"NOOP\r\n" * (PIPELINE_OCTETS // 6))
    assert isinstance(server.next_event(), Hello)
    assert not server.choked
    server.receive(b"NOOP\r\n" * 10)
    assert server.choked
    server.accept()
    assert server.next_event() is None
    assert not server.choked


def test_large_content_passes_in_parts() -> None:
    server = to_content(Profile("mx.example"))
    block = (b"x" * 998 + b"\r\n") * 60
    total = 0
    for _ in range(50):
        server.receive(block)
        event = server.next_event()
        assert isinstance(event, Content)
        total += len(event.chunk)
        assert server.next_event() is None
        assert total >= _ * len(block)
    server.receive(b".\r\n")
    event = server.next_event()
    assert isinstance(event, EndOfMessage)
    assert total + len(event.chunk) == 50 * len(block)


def test_a_line_without_end_is_not_kept() -> None:
    server = Server(Profile("mx.example", command_octets=100))
    for _ in range(100):
        server.receive(b"x" * 50)
        assert server.next_event() is None
    server.receive(b"\r\nNOOP\r\n")
    event = server.next_event()
    assert isinstance(event, Refusal)
    assert event.reply.code == 500
    assert server.next_event() is None
    assert server.output().endswith(b"250 2.0.0 ok\r\n")


def test_plaintext_pipelined_with_starttls_ends_the_session() -> None:
    player = Player(Profile("mx.example", starttls=True))
    player.say(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n")
    assert player.ended
    assert player.output.endswith(b"421 4.7.0 nothing may follow STARTTLS before the handshake\r\n")
    assert not any(isinstance(event, Mail | StartTls) for event in player.events)


def test_plaintext_before_the_handshake_is_not_taken_for_said_under_tls() -> None:
    player = Player(Profile("mx.example", starttls=True))
    player.say(b"STARTTLS\r\n")
    player.server.receive(b"MAIL FROM:<a@b>\r\n")
    player.secure()
    assert player.ended
    assert not any(isinstance(event, Mail) for event in player.events)


def test_farewell_ends_whatever_the_state() -> None:
    server = to_content(Profile("mx.example"))
    server.receive(b"half a mess")
    while server.next_event() is not None:
        pass
    server.farewell(Reply(421, "4.4.2", "timeout"), "timeout")
    assert server.output() == b"421 4.4.2 timeout\r\n"
    assert server.next_event() == Refusal(Reply(421, "4.4.2", "timeout"), True)
    assert server.next_event() == Ended("timeout")
    server.receive(b".\r\nNOOP\r\n")
    assert server.next_event() is None
    assert server.output() == b""


def test_the_table_knows_every_verb_in_every_command_state() -> None:
    verbs = {verb for commands in COMMANDS.values() for verb in commands}
    assert set(COMMANDS) == {State.READY, State.MAIL, State.RCPT, State.CHUNKS}
    for commands in COMMANDS.values():
        assert set(commands) == verbs


AUTH = Profile("mx.example", mechanisms=(b"PLAIN", b"LOGIN", b"SCRAM-SHA-256"), plaintext=True)


def test_a_line_of_an_exchange_has_a_limit() -> None:
    for end in (b"", b"\r\nNOOP\r\n"):
        player = Player(AUTH)
        player.say(b"AUTH PLAIN\r\n")
        player.say(b"A" * LINE_OCTETS + end)
        player.say(b"" if end else b"\r\nNOOP\r\n")
        assert player.output.endswith(b"334 \r\n500 5.5.2 command line too long\r\n250 2.0.0 ok\r\n")
    player = Player(AUTH)
    player.say(b"AUTH PLAIN\r\n" + b"A" * (LINE_OCTETS - 2) + b"\r\n")
    assert player.output.endswith(b"334 \r\n501 5.5.2 authentication message has a syntax error\r\n")


def test_nobody_is_authenticated_after_starttls_by_what_was_said_before() -> None:
    player = Player(Profile("mx.example", mechanisms=(b"PLAIN",), plaintext=True, starttls=True, authenticate=True))
    player.say(b"AUTH PLAIN AGppcm8Ac2VjcmV0IHdvcmQ=\r\n")
    assert player.server.authenticated
    player.say(b"STARTTLS\r\n")
    player.secure()
    player.say(b"MAIL FROM:<a@b>\r\n")
    assert player.output.endswith(b"530 5.7.0 authentication required\r\n")


def test_what_follows_a_password_waits_for_the_answer() -> None:
    server = Server(AUTH)
    server.receive(b"AUTH PLAIN AGppcm8Ac2VjcmV0IHdvcmQ=\r\nMAIL FROM:<a@b>\r\n")
    assert server.next_event() == Login(b"jiro", b"secret word", "PLAIN")
    assert (server.next_event(), server.output(), server.idle) == (None, b"", False)
    server.reply(Reply(454, "4.7.0", "later"))
    assert isinstance(server.next_event(), Mail)
    assert not server.authenticated


exchanges = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"AUTH PLAIN\r\n",
                b"AUTH LOGIN\r\n",
                b"AUTH SCRAM-SHA-256\r\n",
                b"AUTH PLAIN AGppcm8Ac2VjcmV0IHdvcmQ=\r\n",
                b"AGppcm8Ac2VjcmV0IHdvcmQ=\r\n",
                b"amlybw==\r\n",
                b"biwsbj1qaXJvLHI9Y2xpZW50bm9uY2U=\r\n",
                b"*\r\n",
                b"=\r\n",
                b"\r\n",
                b"\n",
                b"NOOP\r\n",
            ]
        ),
        st.binary(max_size=6),
    ),
    max_size=20,
).map(b"".join)


@given(exchanges, st.lists(st.integers(1, 30), max_size=20))
def test_exchanges_are_the_same_in_any_pieces(data: bytes, sizes: list[int]) -> None:
    whole, pieces = Player(AUTH), Player(AUTH)
    whole.say(data)
    at = 0
    for size in [*sizes, len(data)]:
        pieces.say(data[at : at + size])
        at += size
    assert pieces.output == whole.output
    assert pieces.events == whole.events
    assert pieces.server.authenticated == whole.server.authenticated

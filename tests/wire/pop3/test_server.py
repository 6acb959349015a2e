"""The POP3 engine beyond transcripts: any input in any pieces, answers given late, limits of memory, its table."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.dialogue import PIPELINE_OCTETS
from ekiden.wire.pop3.events import Ended, Login, Retrieve, StartTls, Stat, Update
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import COMMANDS, Server
from ekiden.wire.pop3.states import State
from ekiden.wire.sasl_event import LINE_OCTETS

from .dialogue import MESSAGES, Player

FRAGMENTS = [
    b"USER jiro\r\n",
    b"PASS secret word\r\n",
    b"PASS x\r\n",
    b"AUTH PLAIN AGppcm8Ac2VjcmV0IHdvcmQ=\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH SCRAM-SHA-256\r\n",
    b"biwsbj1qaXJvLHI9eA==\r\n",
    b"*\r\n",
    b"APOP jiro 0123456789abcdef0123456789abcdef\r\n",
    b"STLS\r\n",
    b"CAPA\r\n",
    b"UTF8\r\n",
    b"LANG\r\n",
    b"STAT\r\n",
    b"LIST\r\n",
    b"LIST 2\r\n",
    b"UIDL\n",
    b"RETR 1\r\n",
    b"TOP 2 1\r\n",
    b"DELE 1\r\n",
    b"DELE 3\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"\r",
    b"\n",
    b"x" * 90,
    b"\x00\xff",
]

inputs = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=6)), max_size=25).map(b"".join)
profiles = st.builds(
    Profile,
    timestamp=st.sampled_from([b"", b"<1@x>"]),
    plaintext=st.booleans(),
    errors=st.sampled_from([3, 1000]),
    command_octets=st.just(80),
)
REPLY = re.compile(rb"(\+OK|-ERR|\+ )[^\r\n]*\r\n")


@given(profiles, inputs, st.data())
def test_the_same_in_any_pieces(profile: Profile, said: bytes, data: st.DataObject) -> None:
    whole = Player(profile)
    whole.say(said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    pieces = Player(profile)
    for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        pieces.say(said[start:end])
    assert pieces.output == whole.output
    assert pieces.events == whole.events
    assert pieces.removed == whole.removed


@given(profiles, inputs)
def test_only_quit_removes(profile: Profile, said: bytes) -> None:
    player = Player(profile)
    player.say(said)
    updates = [event for event in player.events if isinstance(event, Update)]
    assert len(updates) <= 1
    if not updates:
        assert player.removed == frozenset()
    else:
        assert player.removed <= MESSAGES.keys()
        assert player.events[-1] == Ended("quit")


@given(inputs)
def test_nothing_of_a_mailbox_without_a_login(said: bytes) -> None:
    player = Player(Profile(plaintext=False, mechanisms=(), errors=0))
    player.say(said)
    assert not [event for event in player.events if not isinstance(event, Ended)]


@given(inputs)
def test_every_reply_is_a_line(said: bytes) -> None:
    player = Player(Profile(errors=0))
    player.say(said)
    rest = player.output
    assert rest.endswith(b"\r\n")
    assert REPLY.match(rest)


def test_an_unanswered_question_stops_everything_and_memory_is_bounded() -> None:
    server = Server(Profile())
    server.receive(b"USER jiro\r\nPASS x\r\nNOOP\r\n")
    assert server.next_event() == Login(b"jiro", b"x", "USER")
    assert server.next_event() is None and server.answering and not server.choked
    assert server.unread == b"NOOP\r\n"
    server.receive(b"NOOP\r\n" * 20_000)
    assert server.choked and len(server.unread) > PIPELINE_OCTETS
    server.refuse("no", "AUTH")
    assert server.next_event() is None
    assert server.output().startswith(b"+OK\r\n-ERR [AUTH] no\r\n+OK\r\n")
    assert server.unread == b""


def test_lines_without_end_are_not_kept() -> None:
    for opening in (b"", b"AUTH PLAIN\r\n"):
        server = Server(Profile())
        server.receive(opening)
        assert server.next_event() is None
        for _ in range(100):
            server.receive(b"x" * 10_000)
            assert server.next_event() is None
            assert len(server.unread) <= LINE_OCTETS


def test_open_begins_where_a_login_ended_elsewhere() -> None:
    server = Server(Profile(), secured=True)
    server.open(2, b"+OK welcome\r\n")
    server.receive(b"STAT\r\nRETR 2\r\nRETR 3\r\n")
    assert server.next_event() == Stat()
    server.answer(b"+OK 2 20\r\n")
    assert server.next_event() == Retrieve(2, -1)
    server.refuse("gone")
    assert server.next_event() is None
    assert server.output() == b"+OK welcome\r\n+OK 2 20\r\n-ERR gone\r\n-ERR no such message\r\n"


def test_a_failed_update_still_ends_the_session() -> None:
    server = Server(Profile())
    server.open(1)
    server.receive(b"DELE 1\r\nQUIT\r\nSTAT\r\n")
    assert server.next_event() == Update(frozenset({1}))
    server.refuse("some messages are not removed", "SYS/TEMP")
    assert server.next_event() == Ended("quit")
    assert server.next_event() is None
    assert server.output().endswith(b"-ERR [SYS/TEMP] some messages are not removed\r\n")


def test_plaintext_after_stls_ends_the_session_in_silence() -> None:
    server = Server(Profile(starttls=True))
    server.receive(b"STLS\r\n")
    assert server.next_event() == StartTls()
    server.answer()
    server.receive(b"USER jiro\r\n")
    assert server.next_event() == Ended("plaintext after STLS")
    server.secured()
    assert server.next_event() is None
    assert server.output() == b"+OK\r\n"


@pytest.mark.parametrize("state", COMMANDS, ids=lambda state: state.name)
def test_the_table_says_something_about_every_verb(state: State) -> None:
    verbs = {verb for commands in COMMANDS.values() for verb in commands}
    assert COMMANDS[state].keys() == verbs

"""Parsers that keep something between the pieces in which octets come, for test_growth.py: what is kept may be looked
at, or copied, with every piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.fuzz import answers, frontiers, neighbours, network, people
from tests.wire.netstrings import Driven
from tests.wire.smtp.dialogue import Player

from ekiden.delivery.mbox import entry
from ekiden.policy.blocking import Refusal
from ekiden.programs.splogger import Lines
from ekiden.wire.carriage import Inserter, Remover
from ekiden.wire.lines import DotReader, LineGauge
from ekiden.wire.pop3.content import Measure, pieces, top
from ekiden.wire.qmqp import Session as Qmqp
from ekiden.wire.qmtp import Session as Qmtp
from ekiden.wire.smtp.client import State
from ekiden.wire.smtp.client_reply import ReplyReader, UnreadableError
from ekiden.wire.smtp.events import Content, Event
from ekiden.wire.smtp.profile import Profile

Pieces = Iterable[bytes]


class Stream(NamedTuple):
    """``hear`` takes everything in pieces; ``begins`` as a target's."""

    name: str
    hear: Callable[[Pieces], object]
    begins: tuple[bytes, ...] = (b"",)


class _Forgetful(Player):
    """Keeps neither output nor content, for that takes time of its own."""

    def _collect(self) -> None:
        self.server.output()
        self.events.clear()

    def _answer(self, event: Event) -> None:
        if not isinstance(event, Content):
            super()._answer(event)


def _smtp(profile: Profile) -> Callable[[Pieces], None]:
    def hear(said: Pieces) -> None:
        player = _Forgetful(profile)
        for piece in said:
            if player.ended:
                return
            player.say(piece)

    return hear


def _pop3(options: int) -> Callable[[Pieces], None]:
    def hear(said: Pieces) -> None:
        player = network._pop3_player(options)
        for piece in said:
            if player.ended:
                return
            player.say(piece)
            player.output = b""

    return hear


class _Forgotten(Driven):
    """The same for netstrings."""

    def _step(self) -> bool:
        self._content = self.output = b""
        return super()._step()


def _refusal(said: Pieces) -> None:
    refusal = Refusal(b"451 no")
    for piece in said:
        refusal.receive(piece)


def _replies(said: Pieces) -> None:
    reader = ReplyReader()
    try:
        for piece in said:
            reader.feed(piece)
            while reader.next_reply() is not None:
                continue
    except UnreadableError:
        return


def _client(said: Pieces) -> None:
    session = answers._Session(0)
    for piece in said:
        if session.client.state is State.CLOSED:
            return
        session.hear(piece)


def _content(said: Pieces) -> None:
    reader, gauge, remover, inserter, measure = DotReader(), LineGauge(), Remover(), Inserter(), Measure()
    for piece in said:
        block, rest = reader.read(piece)
        gauge.measure(block)
        measure.add(inserter.feed(remover.feed(piece)))
        if rest is not None:
            return


def _fetched(said: Pieces) -> None:
    said = list(said)
    for _piece in (*pieces(said), *top(said, 3), *entry(said)):
        continue


def _splogger(said: Pieces) -> None:
    lines = Lines(people._Entries())
    for piece in said:
        lines.feed(piece)


_LONGEST_FRAME = b"\x03\x00\x00\x00"
_GREETED = b"220 x\r\n"

STREAMS = (
    Stream("smtp", _smtp(Profile(greeting="mx.example")), (b"", b"MAIL FROM:<", network._SMTP_DATA[1:])),
    Stream("smtp, normalised", _smtp(Profile(greeting="mx.example", normalise=True)), (network._SMTP_DATA[1:],)),
    Stream("bdat", _smtp(Profile(greeting="mx.example")), (network._SMTP_DATA[1:-6] + b"BDAT 9999999\r\n",)),
    Stream("auth", _smtp(network._profile(128)), (b"AUTH LOGIN\r\n", b"AUTH PLAIN ")),
    Stream("pop3", _pop3(1)),
    Stream("pop3, logged in", _pop3(17), (b"", b"TOP 1 ")),
    Stream("qmtp", lambda said: _Forgotten(Qmtp(0), said), (b"", b"1:\n,0:,999999:", b"9999999:\n", b"9999999:\r")),
    Stream("qmqp", lambda said: _Forgotten(Qmqp(0), said), (b"", b"9999999:0:,0:,", b"9999999:9999990:")),
    Stream("refusal", _refusal, (b"", b"RCPT ")),
    Stream("replies", _replies, (b"", b"250-", b"250 ")),
    Stream("client", _client, (b"", _GREETED, _GREETED + b"250-")),
    Stream("content", _content),
    Stream("fetched", _fetched),
    Stream("role", frontiers._heard_by_a_role, (b"", _LONGEST_FRAME, b"\0\0\0\3\x92\4\1")),
    Stream("door", frontiers._heard_by_the_door, (b"", b"\0\0\x40\0", b"\0\0\0\3\x92\4\1")),
    Stream("spawner, commands", lambda said: neighbours._NoWork().hear(said), (b"", b"\0", b"\x007/30\0")),
    Stream("spawner, reports", lambda said: neighbours._Told().hear(said), (b"", b"\0K")),
    Stream("splogger", _splogger),
)

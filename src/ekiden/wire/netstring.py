"""Netstrings, and what the two mail protocols made of them have in common (cr.yp.to/proto/netstrings.txt).

A netstring is its length in decimal digits, a colon, so many octets, and a comma. The engines ``qmtp.Session`` and
``qmqp.Session`` are driven alike:

1. Give octets to ``receive``. Then take events from ``next_event`` until it gives None. Answer each question
   (``Sender``, ``Rcpt``, ``EndOfMessage``) with ``accept`` or ``reply``, now or later; until then nothing further is
   parsed.
2. Send ``output()``. While ``choked``, read nothing more. After ``Ended``, send the output and close.

Neither protocol can say what is wrong with its framing: a malformed or too long netstring ends the connection.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from ekiden.base.reply import Reply

CONTENT_OCTETS = 2_000_000_000
"""Longest netstring taken, in octets."""

ADDRESS_OCTETS = 999
"""Longest envelope address taken, as in the original programs."""

RECIPIENTS = 100_000
"""Most recipients of one message; the queue takes no more either."""

WAITING_OCTETS = 65_536
"""Input kept while an answer is owed before ``choked`` asks the shell to stop reading."""

BAD_SENDER = Reply(553, "5.1.7", "this sender address cannot be handled")
BAD_RECIPIENT = Reply(553, "5.1.3", "this recipient address cannot be handled")


class Malformed(Exception):
    """The input is not what the protocol says."""


class Oversized(Malformed):
    """More than is taken."""


# Questions.


class Sender(NamedTuple):
    """The envelope's sender; the content came before it."""

    address: bytes


class Rcpt(NamedTuple):
    """A recipient."""

    address: bytes


class EndOfMessage(NamedTuple):
    """Content and envelope are complete: is the message taken?"""


# Notices.


class Content(NamedTuple):
    """Part of the content in wire form: lines end with CRLF."""

    chunk: bytes


class Reset(NamedTuple):
    """The message is refused already: what came of it is to be dropped."""


class Refusal(NamedTuple):
    """The engine refused something by itself; for the log."""

    reply: Reply


class Ended(NamedTuple):
    """The session is over: send the output, then close. ``fault`` is what was wrong with the input, if anything."""

    fault: Malformed | None


Question = Sender | Rcpt | EndOfMessage
Event = Question | Content | Reset | Refusal | Ended
Steps = Generator[Event | None, None, None]
"""A protocol's grammar as it runs: events, and None where more input is needed."""


def netstring(octets: bytes) -> bytes:
    """The octets as a netstring."""
    return b"%d:%b," % (len(octets), octets)


class Input:
    """Octets that have come. The reading methods are generators that give None while there is nothing to read.

    Between ``enter`` and ``leave`` no more is read than the netstring around it has.
    """

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self.left: int | None = None

    def __len__(self) -> int:
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """More octets from the client."""
        self._data = self._data[self._at :] + data if len(self) else data
        self._at = 0

    def enter(self, size: int) -> None:
        """What follows is inside a netstring of ``size`` octets."""
        self.left = size

    def leave(self) -> Generator[None, None, None]:
        """Read the comma of the netstring that was entered, all of which has been read."""
        self.left = None
        yield from self.comma()

    def some(self, most: int) -> Generator[None, None, bytes]:
        """One to ``most`` octets, as many as there are."""
        if self.left is not None and most > self.left:
            raise Malformed("a netstring is longer than the one around it")
        while not len(self):
            yield None
        piece = self._data[self._at : self._at + most]
        self._at += len(piece)
        if self.left is not None:
            self.left -= len(piece)
        return piece

    def exactly(self, count: int) -> Generator[None, None, bytes]:
        """So many octets; few enough to be kept."""
        pieces = []
        while count:
            pieces.append((yield from self.some(count)))
            count -= len(pieces[-1])
        return b"".join(pieces)

    def skip(self, count: int) -> Generator[None, None, None]:
        """Read octets that nobody wants."""
        while count:
            count -= len((yield from self.some(count)))

    def length(self, most: int = CONTENT_OCTETS) -> Generator[None, None, int]:
        """The length of a netstring, with its colon."""
        digits = b""
        while (octet := (yield from self.some(1))) != b":":
            if not octet.isdigit() or digits == b"0":
                raise Malformed("a netstring does not begin with its length")
            digits += octet
            if int(digits) > most:
                raise Oversized(f"a netstring is longer than {most} octets")
        if not digits:
            raise Malformed("a netstring does not begin with its length")
        return int(digits)

    def comma(self) -> Generator[None, None, None]:
        """What ends a netstring."""
        if (yield from self.some(1)) != b",":
            raise Malformed("a netstring does not end with a comma")

    def address(self) -> Generator[None, None, bytes | None]:
        """A netstring that is an address; None for one that cannot be handled."""
        length = yield from self.length()
        if length > ADDRESS_OCTETS:
            yield from self.skip(length)
            address = None
        else:
            address = yield from self.exactly(length)
        yield from self.comma()
        return None if address is None or b"\0" in address else address


class NetstringSession:
    """A session without its grammar, which ``_parse`` is. ``idle``: no message is at hand."""

    tls = False

    def __init__(self) -> None:
        self.idle = True
        self._input = Input()
        self._out: list[bytes] = []
        self._asked: Question | None = None
        self._verdict: Reply | None = None
        self._said = b""
        self._over = False
        self._steps = self._parse()

    def receive(self, data: bytes) -> None:
        """Take octets from the client."""
        if not self._over:
            self._input.feed(data)

    def next_event(self) -> Event | None:
        """The next question or notice; None if an answer or more input is awaited."""
        if self._asked is not None or self._over:
            return None
        try:
            event = next(self._steps)
        except StopIteration:
            event = Ended(None)
        except Malformed as fault:
            event = Ended(fault)
        if isinstance(event, Question):
            self._asked = event
        elif isinstance(event, Ended):
            self._over = True
            self._input = Input()
        return event

    def accept(self, said: bytes = b"ok") -> None:
        """Answer the question with yes; ``said`` is what the client is told at the end of the message."""
        assert self._asked is not None, "no question was asked"
        self._asked, self._verdict, self._said = None, None, said

    def reply(self, reply: Reply) -> None:
        """Answer the question with no: for good if the code is 500 or more."""
        assert self._asked is not None, "no question was asked"
        self._asked, self._verdict = None, reply

    def farewell(self, _reply: Reply | None = None, _reason: str = "") -> None:
        """End the session, whatever its state; there are no words for the reason."""
        self._asked = None
        self._steps = _nothing()

    @property
    def answering(self) -> bool:
        """Whether a question waits for its answer."""
        return self._asked is not None

    @property
    def choked(self) -> bool:
        """Whether enough input waits for an answer."""
        return self._asked is not None and len(self._input) > WAITING_OCTETS

    def output(self) -> bytes:
        """Everything to be sent now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _parse(self) -> Steps:
        raise NotImplementedError


def _nothing() -> Steps:
    """The grammar of a session that is over."""
    yield from ()


def answer(said: bytes, refusal: Reply | None) -> bytes:
    """What both protocols answer: ``K``, ``Z`` (try again) or ``D`` (for good) and a text, as a netstring."""
    if refusal is None:
        return netstring(b"K" + said)
    status = f" (#{refusal.status})" if "(#" not in refusal.text else ""
    text = f"{'D' if refusal.code >= 500 else 'Z'}{refusal.text}{status}"
    return netstring(text.encode("utf-8", "surrogateescape"))

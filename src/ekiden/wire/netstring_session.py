"""What the two mail protocols made of netstrings, QMTP and QMQP, have in common on the server's side.

The engines ``qmtp.Session`` and ``qmqp.Session`` are driven alike:

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
from ekiden.wire.netstring import Input, Malformed, netstring

RECIPIENTS = 100_000
"""Most recipients of one message; the queue takes no more either."""

WAITING_OCTETS = 65_536
"""Input kept while an answer is owed before ``choked`` asks the shell to stop reading."""

TOO_LARGE = Reply(552, "5.3.4", "message size exceeds the limit of this host")
BAD_SENDER = Reply(553, "5.1.7", "this sender address cannot be handled")
BAD_RECIPIENT = Reply(553, "5.1.3", "this recipient address cannot be handled")


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


class NetstringSession:
    """A session without its grammar, which ``_parse`` is. ``idle``: no message is at hand."""

    tls = False

    def __init__(self) -> None:
        self.idle = True
        self._input = Input()
        self._out: list[bytes] = []
        self._asked: Question | None = None
        self._verdict: Reply | None = None
        """What the last question was answered with; None for yes."""
        self._refusal: Reply | None = None
        """Why the message at hand is not taken, if it is not."""
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

    halfway = False
    """As in SMTP's sessions: there are no commands here that could be begun and not ended."""

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

    def _ask_of_message(self, question: Question) -> Steps:
        """A question whose no goes for the whole message; none is asked about a message that is refused."""
        if self._refusal is None:
            yield question
            if self._verdict is not None:
                self._refusal = self._verdict
                yield Reset()

    def _refuse(self, reply: Reply) -> Steps:
        """Refuse the message by the engine's own rules, if it is not refused yet."""
        if self._refusal is None:
            self._refusal = reply
            yield Refusal(reply)
            yield Reset()


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

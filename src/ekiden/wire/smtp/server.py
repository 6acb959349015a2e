"""SMTP server engine (RFC 5321): octets in, events and octets out; no socket, no clock.

The shell's contract:

1. Call ``greet`` (or ``farewell``) and send ``output()``.
2. Give octets to ``receive``. Then take events from ``next_event`` until it gives None. Answer each question
   (events.py) with ``accept`` or ``reply``, now or later; nothing further is parsed until then.
3. Send ``output()``: the replies to everything that was pipelined, joined.
4. While ``choked``, read nothing more from the client. After ``Ended``, send the output and close.

What needs no decision the engine answers by itself and tells in a ``Refusal`` if it refused. What may be said when is
the table ``COMMANDS``; what an answer leads to is ``ACCEPTED``.

Commands may end with a bare LF, as qmail-smtpd takes them from people who type, until the session's first content:
after content a lone LF may be another host's idea of where the content ended, so only CRLF counts from there on.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from ekiden.base.envelope import Body
from ekiden.base.reply import Refused, Reply
from ekiden.wire.lines import DotReader
from ekiden.wire.smtp import replies
from ekiden.wire.smtp.commands import parse_mail, parse_rcpt
from ekiden.wire.smtp.content import TOO_LARGE, ContentGate
from ekiden.wire.smtp.events import (
    Content,
    DataBegins,
    Ended,
    EndOfMessage,
    Event,
    Hello,
    Mail,
    Rcpt,
    Refusal,
    Reset,
    StartTls,
)
from ekiden.wire.smtp.profile import Profile

PIPELINE_OCTETS = 65_536
"""Input kept while an answer is owed before ``choked`` asks the shell to stop reading."""


class State(enum.IntEnum):
    """Where a session is. The first four read commands."""

    READY = enum.auto()
    MAIL = enum.auto()  # a sender is accepted
    RCPT = enum.auto()  # and at least one recipient
    CHUNKS = enum.auto()  # between chunks of BDAT
    DATA = enum.auto()  # content until the dot
    CHUNK = enum.auto()  # a counted chunk
    SKIP = enum.auto()  # a counted chunk that nobody wants
    OVERLONG = enum.auto()  # the rest of a line that is too long
    HANDSHAKE = enum.auto()  # TLS is being negotiated
    ENDING = enum.auto()  # the shell must be told so
    ENDED = enum.auto()


class _Answered(Event, frozen=True):
    """A command has been dealt with; look at the next one."""


_ANSWERED = _Answered()


class Server:
    """One SMTP session. ``secured``: TLS is on from the beginning."""

    __slots__ = (
        "_after",
        "_asked",
        "_at",
        "_body",
        "_commands",
        "_dots",
        "_errors",
        "_gate",
        "_input",
        "_last",
        "_lenient",
        "_out",
        "_reason",
        "_remaining",
        "_state",
        "_utf8",
        "profile",
        "recipients",
        "tls",
    )

    def __init__(self, profile: Profile, secured: bool = False) -> None:
        self.profile = profile
        self.tls = secured
        self.recipients = 0
        self._input = b""
        self._at = 0
        self._out: list[bytes] = []
        self._errors = 0
        self._lenient = True
        self._asked: Event | None = None
        self._reason = ""
        self._enter(State.READY)

    # The shell's side.

    def greet(self) -> None:
        """Say 220, RFC 5321 section 4.2's first reply."""
        self._out.append(b"220 %b ESMTP\r\n" % self.profile.greeting.encode())

    def farewell(self, reply: Reply, reason: str) -> None:
        """Say this, usually a 421, and end the session, whatever its state."""
        self._asked = None
        self._out.append(reply.encode())
        self._end(reason)

    def receive(self, data: bytes) -> None:
        """Take octets from the client."""
        self._input = self._input[self._at :] + data if self._at < len(self._input) else data
        self._at = 0

    @property
    def choked(self) -> bool:
        """Whether enough input waits for an answer."""
        return self._asked is not None and len(self._input) - self._at > PIPELINE_OCTETS

    @property
    def idle(self) -> bool:
        """Whether no transaction is at hand and no answer owed: a good moment for ``farewell``."""
        return self._state is State.READY and self._asked is None

    @property
    def answering(self) -> bool:
        """Whether a question waits for its answer."""
        return self._asked is not None

    def output(self) -> bytes:
        """Everything to be sent now."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def next_event(self) -> Event | None:
        """The next question or notice; None if an answer or more input is awaited."""
        while self._asked is None:
            event = _READERS[self._state](self)
            if event is not _ANSWERED:
                return event
        return None

    def accept(self) -> None:
        """Answer the question with its usual positive reply."""
        asked = self._asked
        assert asked is not None, "no question was asked"
        if isinstance(asked, Hello):
            profile = self.profile
            if not asked.extended:
                self._accepted(profile.hello)
            else:
                self._accepted(profile.extended_hello_secured if self.tls else profile.extended_hello)
        else:
            self._accepted(replies.ACCEPT[type(asked)])

    def reply(self, reply: Reply) -> None:
        """Answer the question; codes below 400 accept."""
        encoded = reply.encode()
        if reply.code < 400:
            self._accepted(encoded)
            return
        asked = self._asked
        assert asked is not None, "no question was asked"
        self._asked = None
        self._out.append(encoded)
        if type(asked) is EndOfMessage:
            self._enter(State.READY)
        elif type(asked) is not DataBegins:
            self._count_error()

    def secured(self) -> None:
        """The handshake is made: forget everything that was said in clear (RFC 3207 section 4.2)."""
        self.tls = True
        if self._at < len(self._input):
            self._end("plaintext after STARTTLS")
        elif self._state is State.HANDSHAKE:
            self._enter(State.READY)

    # Answers and states.

    def _accepted(self, encoded: bytes) -> None:
        asked = self._asked
        assert asked is not None, "no question was asked"
        self._asked = None
        self._out.append(encoded)
        kind = type(asked)
        if kind is Mail:
            assert isinstance(asked, Mail)
            self._body = asked.envelope.body
            self._utf8 = asked.envelope.smtputf8
            self.recipients = 0
        elif kind is Rcpt:
            self.recipients += 1
        elif kind is DataBegins:
            self._gate = ContentGate(self.profile)
            self._dots = DotReader()
        self._enter(ACCEPTED[kind])

    def _ask(self, event: Event) -> Event:
        self._asked = event
        return event

    def _enter(self, state: State) -> None:
        self._state = state
        self._commands = COMMANDS.get(state, _NO_COMMANDS)

    def _end(self, reason: str) -> None:
        self._input, self._at = b"", 0
        self._reason = reason
        self._enter(State.ENDING)

    def _refuse(self, reply: Reply, transaction_over: bool = False) -> Event:
        self._out.append(reply.encode())
        self._count_error()
        return Refusal(reply, transaction_over)

    def _count_error(self) -> None:
        self._errors += 1
        if self.profile.errors and self._errors >= self.profile.errors:
            self.farewell(replies.TOO_MANY_ERRORS, "too many errors")

    # Readers, one for each kind of state.

    def _read_command(self) -> Event | None:
        data, at = self._input, self._at
        end = data.find(b"\n", at)
        limit = self.profile.command_octets
        if end < 0:
            if len(data) - at >= limit > 0:
                self._after = self._state
                self._enter(State.OVERLONG)
                return _ANSWERED
            return None
        self._at = end + 1
        if end - at >= limit > 0:
            return self._refuse(replies.LINE_TOO_LONG)
        if data[end - 1 : end] == b"\r" and end > at:
            line = data[at : end - 1]
        elif self._lenient:
            line = data[at:end]
        else:
            return self._refuse(replies.BARE_LF)
        verb, _space, argument = line.partition(b" ")
        handler = self._commands.get(verb) or self._commands.get(verb.upper())
        if handler is None:
            return self._refuse(replies.UNKNOWN)
        if type(handler) is Reply:
            return self._refuse(handler)
        assert callable(handler)
        return handler(self, argument)

    def _read_overlong(self) -> Event | None:
        end = self._input.find(b"\n", self._at)
        if end < 0:
            self._input, self._at = b"", 0
            return None
        self._at = end + 1
        self._enter(self._after)
        return self._refuse(replies.LINE_TOO_LONG)

    def _read_data(self) -> Event | None:
        data = self._input[self._at :] if self._at else self._input
        self._at = 0
        if not data:
            return None
        block, rest = self._dots.read(data)
        gate = self._gate
        if block:
            block = gate.admit(block)
        if rest is None:
            self._input = b""
            return Content(block) if block else None
        self._input = rest
        self._lenient = False
        if gate.fault is None:
            return self._ask(EndOfMessage(block))
        return self._refuse_content(gate.fault)

    def _read_chunk(self) -> Event | None:
        block = self._take()
        if not block and self._remaining:
            return None
        done = not self._remaining
        gate = self._gate
        block = gate.admit_part(block, done and self._last)
        if not done:
            return Content(block) if block else _ANSWERED
        if gate.fault is not None:
            return self._refuse_content(gate.fault)
        if self._last:
            return self._ask(EndOfMessage(block))
        self._out.append(replies.CHUNK)
        self._enter(State.CHUNKS)
        return Content(block) if block else _ANSWERED

    def _read_skip(self) -> Event | None:
        if not self._take() and self._remaining:
            return None
        if self._remaining:
            return _ANSWERED
        self._enter(self._after)
        return self._refuse(replies.MAIL_OR_RCPT_FIRST)

    def _take(self) -> bytes:
        """Up to the chunk's end."""
        block = self._input[self._at : self._at + self._remaining]
        self._at += len(block)
        self._remaining -= len(block)
        return block

    def _refuse_content(self, fault: Reply) -> Event:
        self._out.append(fault.encode())
        self._enter(State.READY)
        return Refusal(fault, True)

    def _read_handshake(self) -> Event | None:
        if self._at < len(self._input):
            self._end("plaintext after STARTTLS")
            return _ANSWERED
        return None

    def _read_ending(self) -> Event | None:
        self._enter(State.ENDED)
        return Ended(self._reason)

    def _read_nothing(self) -> Event | None:
        self._input, self._at = b"", 0
        return None

    # Commands.

    def _hello(self, argument: bytes, extended: bool) -> Event:
        name = argument.strip()
        if not name:
            return self._refuse(replies.HELLO_SYNTAX)
        return self._ask(Hello(name, extended))

    def _helo(self, argument: bytes) -> Event:
        return self._hello(argument, False)

    def _ehlo(self, argument: bytes) -> Event:
        return self._hello(argument, True)

    def _mail(self, argument: bytes) -> Event:
        try:
            mail = parse_mail(argument)
        except Refused as refused:
            return self._refuse(refused.reply)
        if mail.size > self.profile.size_limit > 0:
            return self._refuse(TOO_LARGE)
        return self._ask(mail)

    def _rcpt(self, argument: bytes) -> Event:
        if self.recipients >= self.profile.recipients > 0:
            # Not an error of the client's: it sends the rest in another transaction (RFC 5321 section 4.5.3.1.10).
            self._out.append(replies.TOO_MANY_RECIPIENTS.encode())
            return Refusal(replies.TOO_MANY_RECIPIENTS)
        try:
            rcpt = parse_rcpt(argument, self._utf8)
        except Refused as refused:
            return self._refuse(refused.reply)
        return self._ask(rcpt)

    def _data(self, argument: bytes) -> Event:
        if argument.strip():
            return self._refuse(replies.NO_ARGUMENT)
        if self._body == Body.BINARY:
            return self._refuse(replies.BINARY_NEEDS_BDAT)
        return self._ask(DataBegins())

    def _bdat(self, argument: bytes) -> Event:
        """RFC 3030 section 2: the octets follow whatever we think of them, so that a bad count ends the session."""
        words = argument.split()
        counted = 1 <= len(words) <= 2 and len(words[0]) <= 18 and words[0].isdigit()
        if not counted or (len(words) == 2 and words[1].upper() != b"LAST"):
            self.farewell(replies.BDAT_SYNTAX, "no end of BDAT can be known")
            return Refusal(replies.BDAT_SYNTAX, True)
        self._remaining = int(words[0])
        self._last = len(words) == 2
        self._lenient = False
        if self._state is State.RCPT:
            self._gate = ContentGate(self.profile, self._body == Body.BINARY)
        elif self._state is not State.CHUNKS:
            self._after = self._state
            self._enter(State.SKIP)
            return _ANSWERED
        self._enter(State.CHUNK)
        return _ANSWERED

    def _rset(self, argument: bytes) -> Event:
        if argument.strip():
            return self._refuse(replies.NO_ARGUMENT)
        self._enter(State.READY)
        self._out.append(replies.FLUSHED)
        return Reset()

    def _noop(self, _argument: bytes) -> Event:
        self._out.append(replies.OK)
        return _ANSWERED

    def _help(self, _argument: bytes) -> Event:
        self._out.append(replies.HELP)
        return _ANSWERED

    def _vrfy(self, argument: bytes) -> Event:
        if not argument.strip():
            return self._refuse(replies.VRFY_SYNTAX)
        self._out.append(replies.VRFY)
        return _ANSWERED

    def _quit(self, _argument: bytes) -> Event:
        self._out.append(b"221 2.0.0 %b\r\n" % self.profile.greeting.encode())
        self._end("quit")
        return _ANSWERED

    def _starttls(self, argument: bytes) -> Event:
        if not self.profile.starttls:
            return self._refuse(replies.NOT_IMPLEMENTED)
        if self.tls:
            return self._refuse(replies.TLS_ALREADY)
        if argument.strip():
            return self._refuse(replies.NO_ARGUMENT)
        if self._at < len(self._input):
            # Something was slipped in to be taken for said under TLS (RFC 3207 section 6, CVE-2011-0411).
            self._out.append(replies.PLAINTEXT.encode())
            self._end("plaintext after STARTTLS")
            return Refusal(replies.PLAINTEXT, True)
        return self._ask(StartTls())


_Handler = Callable[[Server, bytes], Event]
_Commands = Mapping[bytes, "_Handler | Reply"]

_NO_COMMANDS: _Commands = {}

_ALWAYS: _Commands = {
    b"HELO": Server._helo,
    b"EHLO": Server._ehlo,
    b"RSET": Server._rset,
    b"NOOP": Server._noop,
    b"HELP": Server._help,
    b"VRFY": Server._vrfy,
    b"QUIT": Server._quit,
    b"BDAT": Server._bdat,
    **dict.fromkeys(
        (b"EXPN", b"TURN", b"ETRN", b"SEND", b"SOML", b"SAML", b"AUTH", b"LHLO"), replies.NOT_IMPLEMENTED
    ),
}

_IN_TRANSACTION: _Commands = {**_ALWAYS, b"MAIL": replies.NESTED_MAIL, b"STARTTLS": replies.NOT_IN_TRANSACTION}

COMMANDS: Mapping[State, _Commands] = {
    State.READY: {
        **_ALWAYS,
        b"MAIL": Server._mail,
        b"RCPT": replies.MAIL_FIRST,
        b"DATA": replies.MAIL_FIRST,
        b"STARTTLS": Server._starttls,
    },
    State.MAIL: {**_IN_TRANSACTION, b"RCPT": Server._rcpt, b"DATA": replies.RCPT_FIRST},
    State.RCPT: {**_IN_TRANSACTION, b"RCPT": Server._rcpt, b"DATA": Server._data},
    State.CHUNKS: {**_IN_TRANSACTION, b"RCPT": replies.CHUNKS_BEGAN, b"DATA": replies.CHUNKS_BEGAN},
}
"""What may be said in which state, and the answer to what may not. HELO is not insisted on, as in qmail-smtpd."""

ACCEPTED: Mapping[type[Event], State] = {
    Hello: State.READY,
    Mail: State.MAIL,
    Rcpt: State.RCPT,
    DataBegins: State.DATA,
    EndOfMessage: State.READY,
    StartTls: State.HANDSHAKE,
}
"""The state after a question was answered with yes. After no it stays as it was; after content it is READY."""

_READERS: Mapping[State, Callable[[Server], Event | None]] = {
    State.READY: Server._read_command,
    State.MAIL: Server._read_command,
    State.RCPT: Server._read_command,
    State.CHUNKS: Server._read_command,
    State.DATA: Server._read_data,
    State.CHUNK: Server._read_chunk,
    State.SKIP: Server._read_skip,
    State.OVERLONG: Server._read_overlong,
    State.HANDSHAKE: Server._read_handshake,
    State.ENDING: Server._read_ending,
    State.ENDED: Server._read_nothing,
}

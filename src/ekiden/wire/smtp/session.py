"""What both sides owe each other in an SMTP session: input framed, questions asked, answers and replies sent.

The verbs are in server.py; the shell's contract is told there. Here is what octets mean in each state: command lines,
content until the dot, counted chunks, or nothing any more.

Commands may end with a bare LF, as qmail-smtpd takes them from people who type, until the session's first content:
after content a lone LF may be another host's idea of where the content ended, so only CRLF counts from there on.
"""

from __future__ import annotations

from typing import ClassVar

from ekiden.base.reply import Reply
from ekiden.wire.dialogue import ANSWERED, Dialogue
from ekiden.wire.lines import DotReader
from ekiden.wire.smtp import replies
from ekiden.wire.smtp.commands import said_path
from ekiden.wire.smtp.content import ContentGate
from ekiden.wire.smtp.events import (
    Content,
    DataBegins,
    Ended,
    EndOfMessage,
    Event,
    Hello,
    Login,
    Mail,
    Proven,
    Rcpt,
    Refusal,
)
from ekiden.wire.smtp.profile import Profile
from ekiden.wire.smtp.states import ACCEPTED, Commands, State


class Session(Dialogue):
    """One session without its verbs, which ``Server`` adds. ``secured``: TLS is on from the beginning."""

    __slots__ = (
        "_after",
        "_body",
        "_dots",
        "_errors",
        "_gate",
        "_last",
        "_lenient",
        "_parting",
        "_reason",
        "_remaining",
        "_utf8",
        "authenticated",
        "profile",
        "recipients",
        "tls",
    )

    _state: State
    _commands: Commands

    # Set when they begin to mean something, not once per connection.
    _after: State
    _body: int
    _dots: DotReader
    _gate: ContentGate
    _last: bool
    _parting: Reply
    _remaining: int
    _utf8: bool

    protocol: ClassVar[bytes] = b"ESMTP"

    def __init__(self, profile: Profile, secured: bool = False) -> None:
        self.profile = profile
        self.tls = secured
        self.authenticated = False
        self.recipients = 0
        self._errors = 0
        self._lenient = True
        self._reason = ""
        super().__init__(State.READY)

    # The shell's side.

    def greet(self) -> None:
        """Say 220, RFC 5321 section 4.2's first reply."""
        self._out.append(b"220 %b %b\r\n" % (self.profile.greeting.encode(), self.protocol))

    def farewell(self, reply: Reply, reason: str) -> None:
        """Say this, usually a 421, and end the session, whatever its state."""
        self._asked = None
        self._out.append(reply.encode())
        self._end(reason)
        self._parting = reply
        self._enter(State.PARTING)

    @property
    def idle(self) -> bool:
        """Whether no transaction is at hand and no answer owed: a good moment for ``farewell``."""
        return self._state in (State.READY, State.EXCHANGE) and self._asked is None

    @property
    def halfway(self) -> bool:
        """Whether the beginning of a command is here, and not yet its end."""
        return self._at < len(self._input) or self._state is State.OVERLONG

    def accept(self, said: bytes = b"") -> None:
        """Answer the question with its usual positive reply, or with the one ``said``, as it is on the wire."""
        asked = self._asked
        assert asked is not None, "no question was asked"
        if said:
            self._accepted(said)
        elif isinstance(asked, Hello):
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
        if type(asked) is EndOfMessage:
            self._say_of_message(encoded)
            self._enter(State.READY)
            return
        self._out.append(encoded)
        if type(asked) is not DataBegins:
            self._count_error()

    def secured(self) -> None:
        """The handshake is made: forget everything that was said in clear (RFC 3207 section 4.2)."""
        self.tls = True
        self.authenticated = False
        if self._at < len(self._input):
            self._end("plaintext after STARTTLS")
        elif self._state is State.HANDSHAKE:
            self._enter(State.READY)

    # Answers and states.

    def _accepted(self, encoded: bytes) -> None:
        asked = self._asked
        assert asked is not None, "no question was asked"
        self._asked = None
        kind = type(asked)
        if kind is EndOfMessage:
            self._say_of_message(encoded)
            self._enter(State.READY)
            return
        self._out.append(encoded)
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
        elif kind is Login or kind is Proven:
            self.authenticated = True
        self._enter(ACCEPTED[kind])

    def _end(self, reason: str) -> None:
        self._input, self._at = b"", 0
        self._reason = reason
        self._enter(State.ENDING)

    def _refuse(self, reply: Reply, sender: bytes = b"", recipient: bytes = b"") -> Event:
        self._out.append(reply.encode())
        self._count_error()
        return Refusal(reply, False, sender, recipient)

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
                return ANSWERED
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
            return self._refuse(handler, recipient=said_path(argument) if verb.upper() == b"RCPT" else b"")
        assert callable(handler)
        return handler(self, argument)

    def _read_overlong(self) -> Event | None:
        if not self._skip_line():
            return None
        self._enter(self._after)
        return self._refuse(replies.LINE_TOO_LONG)

    def _read_data(self) -> Event | None:
        data = self._input[self._at :] if self._at else self._input
        self._input, self._at = b"", 0
        if not data:
            return None
        block, rest = self._dots.read(data)
        gate = self._gate
        if block:
            block = gate.admit(block)
        if rest is None:
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
            return Content(block) if block else ANSWERED
        if gate.fault is not None:
            return self._refuse_content(gate.fault, self._last)
        if self._last:
            return self._ask(EndOfMessage(block))
        self._out.append(replies.CHUNK)
        self._enter(State.CHUNKS)
        return Content(block) if block else ANSWERED

    def _read_skip(self) -> Event | None:
        if not self._take() and self._remaining:
            return None
        if self._remaining:
            return ANSWERED
        self._enter(self._after)
        return self._refuse(replies.MAIL_OR_RCPT_FIRST)

    def _take(self) -> bytes:
        """Up to the chunk's end."""
        block = self._input[self._at : self._at + self._remaining]
        self._at += len(block)
        self._remaining -= len(block)
        return block

    def _say_of_message(self, encoded: bytes) -> None:
        """Reply to the end of a message's content."""
        self._out.append(encoded)

    def _refuse_content(self, fault: Reply, whole: bool = True) -> Event:
        if whole:
            self._say_of_message(fault.encode())
        else:
            self._out.append(fault.encode())
        self._enter(State.READY)
        return Refusal(fault, True)

    def _read_handshake(self) -> Event | None:
        if self._at < len(self._input):
            self._end("plaintext after STARTTLS")
            return ANSWERED
        return None

    def _read_parting(self) -> Event | None:
        self._enter(State.ENDING)
        return Refusal(self._parting, True)

    def _read_ending(self) -> Event | None:
        self._enter(State.ENDED)
        return Ended(self._reason)


Session.readers = {
    State.READY: Session._read_command,
    State.MAIL: Session._read_command,
    State.RCPT: Session._read_command,
    State.CHUNKS: Session._read_command,
    State.DATA: Session._read_data,
    State.CHUNK: Session._read_chunk,
    State.SKIP: Session._read_skip,
    State.OVERLONG: Session._read_overlong,
    State.HANDSHAKE: Session._read_handshake,
    State.PARTING: Session._read_parting,
    State.ENDING: Session._read_ending,
    State.ENDED: Session._read_nothing,
}

"""What both sides owe each other in a POP3 session: lines framed, questions asked, answers sent.

The verbs are in server.py; the shell's contract is told there.
"""

from __future__ import annotations

from ekiden.wire.dialogue import ANSWERED, Dialogue
from ekiden.wire.pop3.events import Apop, Ended, Event, Login, Proven, ScramBegins, ScramProof
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.states import AFTER_NO, AFTER_YES, Commands, State
from ekiden.wire.sasl_event import LINE_OCTETS

OK = b"+OK\r\n"
SYNTAX = "syntax error"

_PROVING = (Login, Apop, ScramBegins, ScramProof, Proven)


class Session(Dialogue):
    """One session without its verbs, which ``Server`` adds. ``secured``: TLS is on."""

    _state: State
    _commands: Commands

    def __init__(self, profile: Profile, secured: bool = False) -> None:
        self.profile = profile
        self.tls = secured
        self.utf8 = False
        self._errors = 0
        self._reason = ""
        self._after = State.AUTHORIZATION
        super().__init__(State.AUTHORIZATION)

    # The shell's side.

    def greet(self) -> None:
        """Say the greeting, with APOP's timestamp if there is one."""
        stamp = b" " + self.profile.timestamp if self.profile.timestamp else b""
        self._out.append(b"+OK %b%b\r\n" % (self.profile.greeting.encode(), stamp))

    def farewell(self, text: str, reason: str, code: str = "") -> None:
        """Say ``-ERR`` with this text and end the session without an update, whatever its state."""
        self._asked = None
        self._out.append(error(text, code))
        self._end(reason)

    @property
    def unread(self) -> bytes:
        """What the client has said in advance: it goes along when a connection is handed over."""
        return self._input[self._at :]

    def answer(self, octets: bytes = OK) -> None:
        """Answer the question with yes, in these words."""
        asked = self._asked
        assert asked is not None, "no question was asked"
        self._asked = None
        self._out.append(octets)
        self._enter(AFTER_YES[type(asked)])

    def refuse(self, text: str, code: str = "") -> None:
        """Answer the question with ``-ERR [CODE] text`` (RFC 2449 section 8, RFC 3206)."""
        asked = self._asked
        assert asked is not None, "no question was asked"
        self._asked = None
        self._out.append(error(text, code))
        self._enter(AFTER_NO[type(asked)])
        if type(asked) in _PROVING:
            self._count_error()

    def secured(self) -> None:
        """The handshake is made: forget everything that was said in clear (RFC 2595 section 4)."""
        self.tls = True
        self.utf8 = False
        if self._at < len(self._input):
            self._end("plaintext after STLS")
        elif self._state is State.HANDSHAKE:
            self._enter(State.AUTHORIZATION)

    # Answers and states.

    def _say(self, octets: bytes) -> Event:
        self._out.append(octets)
        return ANSWERED

    def _end(self, reason: str) -> None:
        self._input, self._at = b"", 0
        self._reason = reason
        self._enter(State.ENDING)

    def _no(self, text: str, code: str = "") -> Event:
        self._out.append(error(text, code))
        self._count_error()
        return ANSWERED

    def _count_error(self) -> None:
        self._errors += 1
        if self._state is not State.ENDING and self._errors >= self.profile.errors > 0:
            self.farewell("too many errors", "too many errors")

    def _continue(self, line: bytes) -> Event:
        """A line of a SASL exchange."""
        raise NotImplementedError

    # Readers, one for each kind of state.

    def _line(self, limit: int) -> bytes | None:
        """The next line without its end; None if it has not come. A longer one makes the state OVERLONG."""
        data, at = self._input, self._at
        end = data.find(b"\n", at)
        if (len(data) if end < 0 else end + 1) - at > limit:
            self._after = State.AUTHORIZATION if self._state is not State.TRANSACTION else self._state
            self._enter(State.OVERLONG)
            return None
        if end < 0:
            return None
        self._at = end + 1
        # People who type end their lines with LF alone.
        return data[at : end - 1] if end > at and data[end - 1] == 13 else data[at:end]

    def _read_command(self) -> Event | None:
        line = self._line(self.profile.command_octets)
        if line is None:
            return ANSWERED if self._state is State.OVERLONG else None
        verb, _space, argument = line.partition(b" ")
        handler = self._commands.get(verb) or self._commands.get(verb.upper())
        if handler is None:
            return self._no("unknown command")
        if isinstance(handler, str):
            return self._no(handler)
        return handler(self, argument)

    def _read_exchange(self) -> Event | None:
        line = self._line(LINE_OCTETS)
        if line is None:
            return ANSWERED if self._state is State.OVERLONG else None
        return self._continue(line)

    def _read_overlong(self) -> Event | None:
        if not self._skip_line():
            return None
        self._enter(self._after)
        return self._no("line too long")

    def _read_handshake(self) -> Event | None:
        if self._at < len(self._input):
            self._end("plaintext after STLS")
            return ANSWERED
        return None

    def _read_ending(self) -> Event | None:
        self._enter(State.ENDED)
        return Ended(self._reason)


def error(text: str, code: str = "") -> bytes:
    """A negative reply as it is on the wire."""
    return f"-ERR [{code}] {text}\r\n".encode() if code else f"-ERR {text}\r\n".encode()


Session.readers = {
    State.AUTHORIZATION: Session._read_command,
    State.PASSWORD: Session._read_command,
    State.EXCHANGE: Session._read_exchange,
    State.TRANSACTION: Session._read_command,
    State.OVERLONG: Session._read_overlong,
    State.HANDSHAKE: Session._read_handshake,
    State.ENDING: Session._read_ending,
    State.ENDED: Session._read_nothing,
}

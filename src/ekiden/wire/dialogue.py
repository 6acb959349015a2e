"""What servers' sessions have in common that are held in lines, SMTP's and POP3's: input kept, questions, output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, ClassVar

from ekiden.wire.sasl_event import Event

PIPELINE_OCTETS = 65_536
"""Input kept while an answer is owed before ``choked`` asks the shell to stop reading."""


class Ended(Event, frozen=True):
    """The session is over: send the output, then close. ``reason`` is for the log."""

    reason: str


class _Answered(Event, frozen=True):
    """A command has been dealt with; look at the next one."""


ANSWERED = _Answered()

_NO_COMMANDS: Mapping[bytes, Any] = {}


class Dialogue:
    """A session without its protocol, which says what octets mean (``readers``) and what lines (``commands``)."""

    __slots__ = ("_asked", "_at", "_commands", "_input", "_out", "_state")

    _state: IntEnum
    _commands: Mapping[bytes, Any]

    commands: ClassVar[Mapping[Any, Mapping[bytes, Any]]] = {}
    """What may be said in which state: the verb's handler, or what refuses it."""

    readers: ClassVar[Mapping[Any, Callable[[Any], Event | None]]] = {}
    """What octets mean in which state."""

    def __init__(self, state: IntEnum) -> None:
        self._input = b""
        self._at = 0
        self._out: list[bytes] = []
        self._asked: Event | None = None
        self._enter(state)

    # The shell's side.

    def receive(self, data: bytes) -> None:
        """Take octets from the client."""
        self._input = self._input[self._at :] + data if self._at < len(self._input) else data
        self._at = 0

    @property
    def choked(self) -> bool:
        """Whether enough input waits for an answer."""
        return self._asked is not None and len(self._input) - self._at > PIPELINE_OCTETS

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
            event = self.readers[self._state](self)
            if event is not ANSWERED:
                return event
        return None

    # The protocol's side.

    def _ask(self, event: Event) -> Event:
        self._asked = event
        return event

    def _enter(self, state: IntEnum) -> None:
        self._state = state
        self._commands = self.commands.get(state, _NO_COMMANDS)

    def _skip_line(self) -> bool:
        """Throw away what there is up to a line's end; whether that has come."""
        end = self._input.find(b"\n", self._at)
        if end < 0:
            self._input, self._at = b"", 0
            return False
        self._at = end + 1
        return True

    def _read_nothing(self) -> Event | None:
        self._input, self._at = b"", 0
        return None

"""AUTH (RFC 4954): a session in which a client may say who it is, by one of the profile's SASL mechanisms."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from ekiden.wire.dialogue import ANSWERED
from ekiden.wire.sasl_event import LINE_OCTETS
from ekiden.wire.smtp import replies
from ekiden.wire.smtp.events import Event
from ekiden.wire.smtp.session import Session
from ekiden.wire.smtp.states import State

if TYPE_CHECKING:
    from ekiden.wire.sasl_exchange import Exchange


class Authentication(Session):
    """A session with AUTH. Programs that do not offer it never load the mechanisms."""

    __slots__ = ("_exchange",)

    _exchange: Exchange

    # The shell's side.

    def offer(self, salt: bytes, iterations: int, nonce: bytes) -> None:
        """Answer ScramBegins; ``nonce``: fresh printable octets without a comma."""
        self._asked = None
        self._challenge(self._exchange.offer(salt, iterations, nonce))

    def sign(self, signature: bytes) -> None:
        """Answer ScramProof with yes."""
        self._asked = None
        self._challenge(self._exchange.sign(signature))

    # The verb and its exchange.

    def _auth(self, argument: bytes) -> Event:
        """RFC 4954 section 4."""
        from ekiden.wire.sasl_exchange import Exchange

        name, space, initial = argument.strip().partition(b" ")
        mechanism = name.upper()
        if not self.profile.mechanisms:
            return self._refuse(replies.NOT_IMPLEMENTED)
        if self.authenticated:
            return self._refuse(replies.AUTH_ALREADY)
        if not name:
            return self._refuse(replies.AUTH_SYNTAX)
        if mechanism not in self.profile.mechanisms:
            return self._refuse(replies.AUTH_UNKNOWN)
        if not (self.tls or self.profile.plaintext):
            return self._refuse(replies.AUTH_IN_CLEAR)
        self._exchange = Exchange(mechanism)
        if space:
            return self._continue(b"" if initial == b"=" else initial)
        self._challenge(self._exchange.begin())
        return ANSWERED

    def _challenge(self, message: bytes) -> None:
        self._out.append(b"334 %b\r\n" % binascii.b2a_base64(message, newline=False))
        self._enter(State.EXCHANGE)

    def _read_exchange(self) -> Event | None:
        data, at = self._input, self._at
        end = data.find(b"\n", at)
        if end < 0:
            if len(data) - at >= LINE_OCTETS:
                self._after = State.READY
                self._enter(State.OVERLONG)
                return ANSWERED
            return None
        self._at = end + 1
        self._enter(State.READY)
        if end - at >= LINE_OCTETS:
            return self._refuse(replies.LINE_TOO_LONG)
        line = data[at:end]
        if line.endswith(b"\r"):
            line = line[:-1]
        elif not self._lenient:
            return self._refuse(replies.BARE_LF)
        return self._continue(line)

    def _continue(self, line: bytes) -> Event:
        """A line of an exchange, which ends with it unless more is to be said."""
        from ekiden.wire import sasl

        if line == b"*":
            return self._refuse(replies.AUTH_CANCELLED)
        try:
            step = self._exchange.step(sasl.decode(line))
        except sasl.Malformed:
            return self._refuse(replies.AUTH_MALFORMED)
        if isinstance(step, Event):
            return self._ask(step)
        self._challenge(step)
        return ANSWERED


Authentication.readers = {**Session.readers, State.EXCHANGE: Authentication._read_exchange}

"""The verbs by which a POP3 client says who it is: USER, PASS, APOP, AUTH, and STLS and UTF8 before them.

An exchange of SASL (RFC 5034) is a verb that takes further lines.
"""

from __future__ import annotations

import base64
import re

from ekiden.wire import sasl
from ekiden.wire.dialogue import ANSWERED
from ekiden.wire.pop3.events import Apop, Event, Login, StartTls
from ekiden.wire.pop3.session import OK, SYNTAX, Session
from ekiden.wire.pop3.states import State
from ekiden.wire.sasl_exchange import Exchange

_DIGEST = re.compile(rb"[0-9A-Fa-f]{32}")
_NO_TLS_YET = "begin TLS first: passwords are not taken in clear"


class Authorization(Session):
    """A session up to its login."""

    # Set when they begin to mean something.
    _exchange: Exchange
    _name: bytes

    def offer(self, salt: bytes, iterations: int, nonce: bytes) -> None:
        """Answer ScramBegins; ``nonce``: fresh printable octets without a comma."""
        self.answer(_challenge(self._exchange.offer(salt, iterations, nonce)))

    def sign(self, signature: bytes) -> None:
        """Answer ScramProof with yes."""
        self.answer(_challenge(self._exchange.sign(signature)))

    @property
    def _may_say_password(self) -> bool:
        return self.tls or self.profile.plaintext

    def _user(self, argument: bytes) -> Event:
        if not self._may_say_password:
            return self._no(_NO_TLS_YET)
        try:
            sasl.check_name(argument)
        except sasl.Malformed:
            return self._no(SYNTAX)
        self._name = argument
        self._enter(State.PASSWORD)
        return self._say(OK)

    def _pass(self, argument: bytes) -> Event:
        self._enter(State.AUTHORIZATION)
        try:
            sasl.check_name(argument)
        except sasl.Malformed:
            return self._no(SYNTAX)
        return self._ask(Login(self._name, argument, "USER"))

    def _apop(self, argument: bytes) -> Event:
        if not self.profile.timestamp:
            return self._no("APOP is not offered")
        user, _space, digest = argument.rpartition(b" ")
        try:
            sasl.check_name(user)
        except sasl.Malformed:
            return self._no(SYNTAX)
        if _DIGEST.fullmatch(digest) is None:
            return self._no(SYNTAX)
        return self._ask(Apop(user, digest.lower()))

    def _auth(self, argument: bytes) -> Event:
        """RFC 5034: AUTH alone lists the mechanisms, as clients older than CAPA expect."""
        name, space, initial = argument.partition(b" ")
        offered = self._offered()
        if not name:
            return self._say(b"+OK\r\n%b.\r\n" % b"".join(mechanism + b"\r\n" for mechanism in offered))
        mechanism = name.upper()
        if mechanism not in offered:
            refused = mechanism in self.profile.mechanisms
            return self._no(_NO_TLS_YET if refused else "mechanism is not offered")
        self._exchange = Exchange(mechanism)
        if not space:
            self._enter(State.EXCHANGE)
            return self._say(_challenge(self._exchange.begin()))
        return self._continue(b"" if initial == b"=" else initial)

    def _offered(self) -> tuple[bytes, ...]:
        """PLAIN says the password; SCRAM does not."""
        return tuple(name for name in self.profile.mechanisms if name != b"PLAIN" or self._may_say_password)

    def _continue(self, line: bytes) -> Event:
        self._enter(State.AUTHORIZATION)
        if line == b"*":
            return self._no("cancelled")
        try:
            step = self._exchange.step(sasl.decode(line))
        except sasl.Malformed:
            return self._no(SYNTAX)
        if isinstance(step, Event):
            return self._ask(step)
        self._enter(State.EXCHANGE)
        return self._say(_challenge(step))

    def _stls(self, argument: bytes) -> Event:
        if not self.profile.starttls:
            return self._no("TLS is not offered")
        if self.tls:
            return self._no("TLS is active already")
        if argument:
            return self._no(SYNTAX)
        if self._at < len(self._input):
            # Something was slipped in to be taken for said under TLS (CVE-2011-0411).
            self.farewell("nothing may follow STLS", "plaintext after STLS")
            return ANSWERED
        return self._ask(StartTls())

    def _utf8(self, argument: bytes) -> Event:
        if argument:
            return self._no(SYNTAX)
        self.utf8 = True
        return self._say(OK)


def _challenge(octets: bytes) -> bytes:
    return b"+ %b\r\n" % base64.b64encode(octets)

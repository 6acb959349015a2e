"""An exchange of SASL messages from the server's side, whatever protocol carries them: POP3 (RFC 5034), SMTP (4954).

Mechanisms: PLAIN (RFC 4616), SCRAM-SHA-256 (RFC 7677), and LOGIN, which no RFC has:
the server asks for the name, then for the password.
"""

from __future__ import annotations

from ekiden.wire import sasl
from ekiden.wire.sasl_event import Event, Login, Proven, ScramBegins, ScramProof


class Exchange:
    """One attempt by one mechanism. Messages are octets, without the base64 that the protocols put around them."""

    # Set when they begin to mean something.
    _challenge: bytes
    _first: sasl.ScramFirst
    _nonce: bytes

    def __init__(self, mechanism: bytes) -> None:
        self._mechanism = mechanism
        self._proven = False
        self._user: bytes | None = None

    def begin(self) -> bytes:
        """What to send to a client that said nothing beside the mechanism's name."""
        return b"Username:" if self._mechanism == b"LOGIN" else b""

    def step(self, message: bytes) -> Event | bytes:
        """A message of the client's: a question, or what to send next. Raises sasl.Malformed."""
        if self._mechanism == b"PLAIN":
            return Login(*sasl.parse_plain(message), "PLAIN")
        if self._mechanism == b"LOGIN":
            return self._login(message)
        if self._proven:
            if message:
                raise sasl.Malformed("nothing is to be said here")
            return Proven(self._first.user)
        if self._user is None:
            self._first = sasl.parse_scram_first(message)
            self._user = self._first.user
            return ScramBegins(self._user)
        signed, proof = sasl.parse_scram_final(message, self._first, self._challenge, self._nonce)
        return ScramProof(self._user, signed, proof)

    def _login(self, message: bytes) -> Event | bytes:
        sasl.check_name(message)
        if self._user is None:
            self._user = message
            return b"Password:"
        return Login(self._user, message, "LOGIN")

    def offer(self, salt: bytes, iterations: int, nonce: bytes) -> bytes:
        """What answers ScramBegins; ``nonce``: fresh printable octets without a comma."""
        self._nonce = self._first.nonce + nonce
        self._challenge = sasl.scram_challenge(self._nonce, salt, iterations)
        return self._challenge

    def sign(self, signature: bytes) -> bytes:
        """What answers ScramProof with yes."""
        self._proven = True
        return sasl.server_final(signature)

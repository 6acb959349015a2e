"""The beginning of a session: greeting, EHLO or HELO or LHLO, STARTTLS, AUTH.

Sources: RFC 5321 section 3.2, RFC 2033, RFC 3207, RFC 4954.
"""

from __future__ import annotations

import binascii
from collections import deque
from typing import TYPE_CHECKING

from ekiden.base.outcome import Outcome, Verdict
from ekiden.wire.smtp import client_report as report
from ekiden.wire.smtp.client_command import Extensions, hello_command, read_extensions
from ekiden.wire.smtp.client_event import Event, Lost, Ready, StartTls, State, Wish
from ekiden.wire.smtp.client_reply import ReplyReader, reply_text

if TYPE_CHECKING:
    from ekiden.wire.sasl_client import Credentials, Exchange

_READY = Ready()
_BEFORE_TLS = frozenset({State.STARTTLS, State.HANDSHAKE})
_AFTER_TLS = frozenset({State.EHLO, State.HELO})


class Opening:
    """What a session has from its first octet on, and its states up to READY; ``Client`` adds the transactions.

    ``peer`` is the next hop's address as reports show it, ``remote`` its name for RFC 3464. With
    ``credentials`` no message is sent before the login.
    """

    # Set when it begins to mean something.
    _exchange: Exchange

    def __init__(
        self,
        peer: str,
        helo: bytes,
        remote: str = "",
        starttls: Wish = "never",
        lmtp: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        self.state = State.GREETING
        self.extensions = Extensions()
        self.secure = False
        self.replies = 0
        """Replies read so far; a timeout starts anew whenever this grows."""
        self._peer = peer
        self._remote = remote
        self._helo = helo
        self._starttls = starttls
        self._lmtp = lmtp
        self._credentials = credentials
        self._reader = ReplyReader()
        self._events: deque[Event] = deque()
        self._output: list[bytes] = []

    def tls_established(self) -> None:
        """The handshake is made: everything that was said before is forgotten (RFC 3207 section 4.2)."""
        self.secure = True
        self.extensions = Extensions()
        self._hello()

    def lost(self, why: str = "", said: str = "") -> None:
        """The connection ended, or shall end: ``why`` is a sentence for the report, ``said`` the server's last."""
        if self.state is not State.CLOSED:
            over_tls = self.state in _BEFORE_TLS or (self.secure and self.state in _AFTER_TLS)
            self.state = State.CLOSED
            self._events.append(Lost(report.died(self._peer, self._remote, why, False, said), over_tls))

    def _greeted(self, reply: bytes) -> None:
        self._hello()

    def _hello(self) -> None:
        self._introduce(b"LHLO" if self._lmtp else b"EHLO", State.EHLO)

    def _introduce(self, verb: bytes, state: State) -> None:
        try:
            self._output.append(hello_command(verb, self._helo))
        except ValueError as error:
            text = f"My own name cannot be written in SMTP: {error}. (#4.3.5)\n"
            self._give_in(Outcome(Verdict.DEFERRED, "4.3.5", text, self._remote))
        else:
            self.state = state

    def _greeting_failed(self, reply: bytes) -> None:
        self._give_in(report.deferred(f"Connected to {self._peer} but greeting failed", self._remote, reply))

    def _ehlo_accepted(self, reply: bytes) -> None:
        self.extensions = read_extensions(reply)
        self._consider_tls()

    def _ehlo_unknown(self, reply: bytes) -> None:
        if self._lmtp:
            self._name_rejected(reply)
            return
        self._introduce(b"HELO", State.HELO)

    def _helo_accepted(self, reply: bytes) -> None:
        self._consider_tls()

    def _name_rejected(self, reply: bytes) -> None:
        self._give_in(report.deferred(f"Connected to {self._peer} but my name was rejected", self._remote, reply))

    def _consider_tls(self) -> None:
        if not self.secure and self._starttls != "never":
            if self.extensions.starttls:
                self._output.append(b"STARTTLS\r\n")
                self.state = State.STARTTLS
                return
            if self._starttls == "always":
                self._no_tls("")
                return
        self._become_ready()

    def _become_ready(self) -> None:
        if self._credentials is not None:
            self._log_in(self._credentials)
            return
        self._open()

    def _open(self) -> None:
        self.state = State.READY
        self._events.append(_READY)

    def _tls_agreed(self, reply: bytes) -> None:
        if self._reader.pending:
            # Octets sent in the clear must not be taken for the server's words under TLS. Whoever wrote them may want
            # the message in the clear.
            why = "It went on in the clear after agreeing to TLS."
            self.state = State.CLOSED
            self._events.append(Lost(report.died(self._peer, self._remote, why)))
            return
        self.state = State.HANDSHAKE
        self._events.append(StartTls())

    def _tls_refused(self, reply: bytes) -> None:
        if self._starttls == "always":
            self._no_tls(f"Remote host said: {reply_text(reply)}\n")
        else:
            self._become_ready()

    def _no_tls(self, said: str) -> None:
        text = f"Connected to {self._peer} but it does not speak TLS, which is required here. (#4.7.0)\n{said}"
        self._give_in(Outcome(Verdict.DEFERRED, "4.7.0", text, self._remote))

    def _give_in(self, outcome: Outcome) -> None:
        """No message will go through this session."""
        self._output.append(b"QUIT\r\n")
        self.state = State.CLOSED
        self._events.append(Lost(outcome))

    # AUTH (RFC 4954). Whatever goes wrong is deferred: a wrong password is the administrator's, not the sender's.

    def _log_in(self, credentials: Credentials) -> None:
        from ekiden.wire.sasl_client import choose

        exchange = choose(self.extensions.auth, credentials)
        if exchange is None:
            offered = b" ".join(self.extensions.auth).decode("ascii", "replace") or "none"
            text = f"Connected to {self._peer} but cannot log in: mechanisms offered: {offered}. (#4.7.0)\n"
            self._give_in(Outcome(Verdict.DEFERRED, "4.7.0", text, self._remote))
            return
        self._exchange = exchange
        command = b"AUTH " + exchange.name
        if exchange.first is not None:
            command += b" " + _encoded(exchange.first)
        self._output.append(command + b"\r\n")
        self.state = State.AUTH

    def _challenged(self, reply: bytes) -> None:
        from ekiden.wire.sasl import Malformed, decode

        try:
            answer = self._exchange.answer(decode(reply[4:].rstrip(b"\r\n")))
        except Malformed as error:
            self.lost(f"It cannot be logged in to: {error}.", reply_text(reply))
        else:
            self._output.append(_encoded(answer) + b"\r\n")

    def _logged_in(self, reply: bytes) -> None:
        if self._exchange.done:
            self._open()
        else:
            self.lost("It lets us in without knowing the password.", reply_text(reply))

    def _login_refused(self, reply: bytes) -> None:
        self._give_in(report.deferred(f"Connected to {self._peer} but login failed", self._remote, reply, "7.8"))


def _encoded(message: bytes) -> bytes:
    return binascii.b2a_base64(message, newline=False)

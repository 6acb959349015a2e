"""SMTP server engine (RFC 5321): octets in, events and octets out; no socket, no clock.

The shell's contract:

1. Call ``greet`` (or ``farewell``) and send ``output()``.
2. Give octets to ``receive``. Then take events from ``next_event`` until it gives None. Answer each question
   (events.py) with ``accept`` or ``reply``, now or later; nothing further is parsed until then.
3. Send ``output()``: the replies to everything that was pipelined, joined.
4. While ``choked``, read nothing more from the client. After ``Ended``, send the output and close.

What needs no decision the engine answers by itself and tells in a ``Refusal`` if it refused. What may be said when is
the table at the end; what an answer leads to is ``states.ACCEPTED``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.base.envelope import Body
from ekiden.base.reply import Refused
from ekiden.wire.dialogue import ANSWERED
from ekiden.wire.smtp import replies
from ekiden.wire.smtp.authentication import Authentication
from ekiden.wire.smtp.commands import parse_mail, parse_rcpt, said_path
from ekiden.wire.smtp.content import TOO_LARGE, ContentGate
from ekiden.wire.smtp.events import DataBegins, Event, Hello, Refusal, Reset, StartTls
from ekiden.wire.smtp.states import Commands, State


class Server(Authentication):
    """An SMTP session with its verbs."""

    __slots__ = ()

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
        if self.profile.authenticate and not self.authenticated:
            return self._refuse(replies.AUTH_FIRST, said_path(argument))
        try:
            mail = parse_mail(argument, bool(self.profile.mechanisms))
        except Refused as refused:
            return self._refuse(refused.reply, said_path(argument))
        if mail.size > self.profile.size_limit > 0:
            return self._refuse(TOO_LARGE, mail.envelope.sender)
        return self._ask(mail)

    def _rcpt(self, argument: bytes) -> Event:
        if self.recipients >= self.profile.recipients > 0:
            # Not an error of the client's: it sends the rest in another transaction (RFC 5321 section 4.5.3.1.10).
            self._out.append(replies.TOO_MANY_RECIPIENTS.encode())
            return Refusal(replies.TOO_MANY_RECIPIENTS, recipient=said_path(argument))
        try:
            rcpt = parse_rcpt(argument, self._utf8)
        except Refused as refused:
            return self._refuse(refused.reply, recipient=said_path(argument))
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
            return ANSWERED
        self._remaining = int(words[0])
        self._last = len(words) == 2
        self._lenient = False
        if self._state is State.RCPT:
            self._gate = ContentGate(self.profile, self._body == Body.BINARY)
        elif self._state is not State.CHUNKS:
            self._after = self._state
            self._enter(State.SKIP)
            return ANSWERED
        self._enter(State.CHUNK)
        return ANSWERED

    def _rset(self, argument: bytes) -> Event:
        if argument.strip():
            return self._refuse(replies.NO_ARGUMENT)
        self._enter(State.READY)
        self._out.append(replies.FLUSHED)
        return Reset()

    def _noop(self, _argument: bytes) -> Event:
        self._out.append(replies.OK)
        return ANSWERED

    def _help(self, _argument: bytes) -> Event:
        self._out.append(replies.HELP)
        return ANSWERED

    def _vrfy(self, argument: bytes) -> Event:
        if not argument.strip():
            return self._refuse(replies.VRFY_SYNTAX)
        self._out.append(replies.VRFY)
        return ANSWERED

    def _quit(self, _argument: bytes) -> Event:
        self._out.append(b"221 2.0.0 %b\r\n" % self.profile.greeting.encode())
        self._end("quit")
        return ANSWERED

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


_ALWAYS: Commands = {
    b"HELO": Server._helo,
    b"EHLO": Server._ehlo,
    b"RSET": Server._rset,
    b"NOOP": Server._noop,
    b"HELP": Server._help,
    b"VRFY": Server._vrfy,
    b"QUIT": Server._quit,
    b"BDAT": Server._bdat,
    **dict.fromkeys((b"EXPN", b"TURN", b"ETRN", b"SEND", b"SOML", b"SAML", b"LHLO"), replies.NOT_IMPLEMENTED),
}

_IN_TRANSACTION: Commands = {
    **_ALWAYS,
    b"MAIL": replies.NESTED_MAIL,
    b"STARTTLS": replies.NOT_IN_TRANSACTION,
    b"AUTH": replies.NOT_IN_TRANSACTION,
}

COMMANDS: Mapping[State, Commands] = {
    State.READY: {
        **_ALWAYS,
        b"MAIL": Server._mail,
        b"RCPT": replies.MAIL_FIRST,
        b"DATA": replies.MAIL_FIRST,
        b"STARTTLS": Server._starttls,
        b"AUTH": Server._auth,
    },
    State.MAIL: {**_IN_TRANSACTION, b"RCPT": Server._rcpt, b"DATA": replies.RCPT_FIRST},
    State.RCPT: {**_IN_TRANSACTION, b"RCPT": Server._rcpt, b"DATA": Server._data},
    State.CHUNKS: {**_IN_TRANSACTION, b"RCPT": replies.CHUNKS_BEGAN, b"DATA": replies.CHUNKS_BEGAN},
}
"""What may be said in which state, and the answer to what may not. HELO is not insisted on, as in qmail-smtpd."""

Server.commands = COMMANDS

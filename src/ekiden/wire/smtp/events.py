"""What the SMTP server engine tells its shell.

Questions wait for ``Server.accept`` or ``Server.reply`` before anything further is parsed; notices want no answer.
"""

from __future__ import annotations

from ekiden.base.envelope import Envelope, Recipient
from ekiden.base.reply import Reply
from ekiden.wire.dialogue import Ended
from ekiden.wire.sasl_event import Event, Login, Proven, ScramBegins, ScramProof

__all__ = [
    "Content",
    "DataBegins",
    "EndOfMessage",
    "Ended",
    "Event",
    "Hello",
    "Login",
    "Mail",
    "Proven",
    "Rcpt",
    "Refusal",
    "Reset",
    "ScramBegins",
    "ScramProof",
    "StartTls",
]


# Questions. Those of AUTH are SASL's: Login and Proven are accepted, ScramBegins and ScramProof answered by the
# server's ``offer`` and ``sign``; to all of them ``reply`` says no.


class Hello(Event, frozen=True):
    """HELO or (``extended``) EHLO; any transaction is over. ``name`` is what the client calls itself, unchecked."""

    name: bytes
    extended: bool


class Mail(Event, frozen=True):
    """MAIL begins a transaction. The shell adds the recipients that it accepts to ``envelope.recipients``.

    ``size`` is the announced number of octets (RFC 1870), 0 if none was announced.
    """

    envelope: Envelope
    size: int


class Rcpt(Event, frozen=True):
    """One forward-path with its DSN parameters (RFC 3461)."""

    recipient: Recipient


class DataBegins(Event, frozen=True):
    """DATA; ``accept`` says 354. Chunks of BDAT come without this question."""


class EndOfMessage(Event, frozen=True):
    """The content is complete with ``chunk``, which may be empty: is the message taken?"""

    chunk: bytes


class StartTls(Event, frozen=True):
    """STARTTLS. After ``accept`` the shell sends the output, makes the handshake and calls ``secured``."""


# Notices.


class Content(Event, frozen=True):
    """Part of the content: CRLF lines without dot-stuffing, cut anywhere but never between CR and LF."""

    chunk: bytes


class Reset(Event, frozen=True):
    """The transaction is over without a message: RSET, or its content could not be taken."""


class Refusal(Event, frozen=True):
    """The engine refused something by itself. ``transaction_over``: what came of the message is to be dropped.

    ``sender`` or ``recipient`` is what the refused command said, which need not be an address.
    """

    reply: Reply
    transaction_over: bool = False
    sender: bytes = b""
    recipient: bytes = b""

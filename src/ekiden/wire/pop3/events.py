"""What the POP3 server engine tells its shell. All but ``Ended`` are questions and wait for an answer."""

from __future__ import annotations

from ekiden.wire.dialogue import Ended
from ekiden.wire.sasl_event import Event, Login, Proven, ScramBegins, ScramProof

__all__ = [
    "Apop",
    "Ended",
    "Event",
    "Listing",
    "Login",
    "Proven",
    "Retrieve",
    "ScramBegins",
    "ScramProof",
    "StartTls",
    "Stat",
    "Update",
]

# Who are you? Those of SASL too. Answered with ``refuse``, or by ``open``, or by handing the connection over.


class Apop(Event, frozen=True):
    """APOP: ``digest`` is the MD5 of the greeting's timestamp and the password, in lower-case hexadecimal."""

    user: bytes
    digest: bytes


class StartTls(Event, frozen=True):
    """STLS. After ``answer`` the shell sends the output, makes the handshake and calls ``secured``."""


# What do you have? Answered with ``answer``, or with ``refuse``.


class Stat(Event, frozen=True):
    """STAT: number and octets of the messages that are not marked deleted."""


class Listing(Event, frozen=True):
    """LIST or (``unique``) UIDL of one message, or of all that are not marked deleted if ``number`` is 0."""

    unique: bool
    number: int


class Retrieve(Event, frozen=True):
    """RETR, or TOP with the first ``lines`` of the body (RETR: -1)."""

    number: int
    lines: int


class Update(Event, frozen=True):
    """QUIT after a login: remove these messages, then answer. It is the only time at which any is removed."""

    deleted: frozenset[int]

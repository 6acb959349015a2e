"""What the POP3 server engine tells its shell. All but ``Ended`` are questions and wait for an answer."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events."""


# Who are you? Answered with ``refuse``, or by ``open``, or by handing the connection over.


class Login(Event, frozen=True):
    """A name and a password, by USER and PASS or by SASL PLAIN."""

    user: bytes
    password: bytes
    mechanism: str


class Apop(Event, frozen=True):
    """APOP: ``digest`` is the MD5 of the greeting's timestamp and the password, in lower-case hexadecimal."""

    user: bytes
    digest: bytes


class ScramBegins(Event, frozen=True):
    """SCRAM-SHA-256 of this user. Answered by ``offer`` with what is kept for the user, or something like it."""

    user: bytes


class ScramProof(Event, frozen=True):
    """Is ``proof`` right for ``signed``? Answered by ``sign`` with the server's signature."""

    user: bytes
    signed: bytes
    proof: bytes


class Proven(Event, frozen=True):
    """The client has seen the server's signature too: the login that ``ScramProof`` was about goes on."""

    user: bytes


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


class Ended(Event, frozen=True):
    """The session is over: send the output, then close. ``reason`` is for the log."""

    reason: str

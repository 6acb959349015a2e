"""What a login by SASL asks the shell of a protocol's engine, and the base of all that engines tell their shells.

Apart from the exchange itself (``wire.sasl_exchange``): programs without one start sooner.
"""

from __future__ import annotations

import msgspec

LINE_OCTETS = 12_288
"""Longest line of an exchange (RFC 4954 section 4)."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events."""


class Login(Event, frozen=True):
    """A name and a password, by ``mechanism``, which is POP3's ``USER`` too."""

    user: bytes
    password: bytes
    mechanism: str


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

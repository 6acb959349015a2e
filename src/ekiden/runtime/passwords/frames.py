"""What those who talk with strangers ask the keepers of passwords, and what they are told (``runtime.link``).

A process that was taken over by somebody can ask about passwords, and no more.
"""

from __future__ import annotations

from ekiden.runtime.frames import Frame

# ``token`` is the connection's, chosen by whoever asks; ``address`` the client's, for limits and the log.


class CheckPassword(Frame, frozen=True, tag=60):
    """Is this the user's password?"""

    token: int
    address: str
    user: bytes
    password: bytes


class BeginScram(Frame, frozen=True, tag=62):
    """Which salt and how many iterations does this user's password have?"""

    token: int
    address: str
    user: bytes


class CheckScram(Frame, frozen=True, tag=63):
    """Is ``proof`` right for what was ``signed``?"""

    token: int
    address: str
    user: bytes
    signed: bytes
    proof: bytes


class Forget(Frame, frozen=True, tag=65):
    """The connection is gone; whatever was asked about it needs no answer."""

    token: int


# Answers.


class Verified(Frame, frozen=True, tag=70):
    """Yes. ``signature`` is SCRAM's, empty for the others. POP3: ``Enter`` or ``Forget`` follows."""

    token: int
    signature: bytes = b""


class Denied(Frame, frozen=True, tag=71):
    """No; response code and text for the client."""

    token: int
    code: str
    text: str


class ScramOffer(Frame, frozen=True, tag=72):
    """The answer to BeginScram, whether or not there is such a user."""

    token: int
    salt: bytes
    iterations: int


FromSmtpd = CheckPassword | BeginScram | CheckScram | Forget
ToSmtpd = Verified | Denied | ScramOffer

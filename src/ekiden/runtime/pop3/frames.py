"""What the POP3 door, the keeper of passwords and the sessions say to each other (``runtime.link``).

The door is the process that talks with clients whose name nobody has proved yet; the keeper is the only one that may
look at passwords and become users. A door that was taken over by somebody can ask about passwords, and no more.
"""

from __future__ import annotations

from ekiden.runtime.frames import Frame
from ekiden.runtime.passwords.frames import (
    BeginScram,
    CheckPassword,
    CheckScram,
    Denied,
    Forget,
    ScramOffer,
    Verified,
)

# From the door, beside questions about passwords.


class CheckApop(Frame, frozen=True, tag=61):
    """Is ``digest`` right for ``timestamp`` (RFC 1939 section 7)?"""

    token: int
    address: str
    user: bytes
    timestamp: bytes
    digest: bytes


class Enter(Frame, frozen=True, tag=64):
    """The client that was verified goes on in a process of the user's: a descriptor of its connection comes along.

    ``unread``: what it has said in advance.
    """

    token: int
    secured: bool
    unread: bytes
    has_descriptor: bool = True


# To the door, beside the answers.


class Left(Frame, frozen=True, tag=73):
    """A client that entered has left: it need not be counted any more."""

    token: int


# To a session's process, and back.


class Serve(Frame, frozen=True, tag=80):
    """Serve this client, whose connection comes along, with this mailbox."""

    token: int
    user: bytes
    home: bytes
    mailbox: bytes
    secured: bool
    unread: bytes
    has_descriptor: bool = True


class Served(Frame, frozen=True, tag=81):
    """How it ended. ``last``: the process ends with it, as it may not see the mailbox that is there next time."""

    token: int
    how: str
    retrieved: int = 0
    removed: int = 0
    octets: int = 0
    last: bool = False


FromDoor = CheckPassword | CheckApop | BeginScram | CheckScram | Enter | Forget
Question = CheckPassword | CheckApop | BeginScram | CheckScram
ToDoor = Verified | Denied | ScramOffer | Left

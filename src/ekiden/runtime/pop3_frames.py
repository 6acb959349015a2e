"""What the POP3 door, the keeper of passwords and the sessions say to each other (``runtime.link``).

The door is the process that talks with clients whose name nobody has proved yet; the keeper is the only one that may
look at passwords and become users. A door that was taken over by somebody can ask about passwords, and no more.
"""

from __future__ import annotations

from ekiden.runtime.frames import Frame

# From the door. ``token`` is the connection's, chosen by the door; ``address`` the client's, for limits and the log.


class CheckPassword(Frame, frozen=True, tag=60):
    """Is this the user's password?"""

    token: int
    address: str
    user: bytes
    password: bytes


class CheckApop(Frame, frozen=True, tag=61):
    """Is ``digest`` right for ``timestamp`` (RFC 1939 section 7)?"""

    token: int
    address: str
    user: bytes
    timestamp: bytes
    digest: bytes


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


class Enter(Frame, frozen=True, tag=64):
    """The client that was verified goes on in a process of the user's: a descriptor of its connection comes along.

    ``unread``: what it has said in advance.
    """

    token: int
    secured: bool
    unread: bytes
    has_descriptor: bool = True


class Forget(Frame, frozen=True, tag=65):
    """The connection is gone; whatever was asked about it needs no answer."""

    token: int


# To the door.


class Verified(Frame, frozen=True, tag=70):
    """Yes. ``signature`` is SCRAM's, empty for the others. ``Enter`` or ``Forget`` follows."""

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
    """How it ended."""

    token: int
    how: str
    retrieved: int
    removed: int
    octets: int


FromDoor = CheckPassword | CheckApop | BeginScram | CheckScram | Enter | Forget
Question = CheckPassword | CheckApop | BeginScram | CheckScram
ToDoor = Verified | Denied | ScramOffer | Left

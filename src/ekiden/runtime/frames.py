"""What the processes say to each other: typed frames over unix stream sockets.

A frame is four octets of length, big-endian, then a msgpack array whose first member is the type's tag. The receiver
decodes with validation and knows which types may come from whom; anything else ends the connection. Content is in
wire form (CRLF lines, not dot-stuffed). Content larger than the setting ``inlinebytes`` never travels in a frame but
as a file descriptor sent beside it (SCM_RIGHTS), which the frame announces.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ekiden.base.envelope import Envelope, Origin
from ekiden.base.outcome import Outcome


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Base of all frames. ``token`` and ``job`` are chosen by the asking side and come back in the answer."""


# Intake: smtpd (and whoever injects) to queue, and back.


class Inject(Frame, frozen=True, tag=1):
    """Queue this message; ``Accepted`` comes when it is durable. ``spool`` names a granted spool file, else empty.

    ``checksum``: CRC-32 of the spool file's content, 0 if the sender did not make it.
    """

    token: int
    envelope: Envelope
    origin: Origin
    content: bytes
    spool: str = ""
    size: int = 0
    checksum: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0


class Accepted(Frame, frozen=True, tag=2):
    token: int
    message: int


class Rejected(Frame, frozen=True, tag=3):
    """Not queued; reply ``code`` (4xx or 5xx), enhanced status and text for the client."""

    token: int
    code: int
    status: str
    text: str


class SpoolRequest(Frame, frozen=True, tag=4):
    """Ask for a new file to write a large content to. Answer: ``SpoolGrant`` with a descriptor, or ``Rejected``."""

    token: int


class SpoolGrant(Frame, frozen=True, tag=5):
    """A new empty file, open for reading and writing, comes along. The writer fsyncs it before ``Inject``."""

    token: int
    spool: str
    has_descriptor: bool = True


class SpoolRelease(Frame, frozen=True, tag=6):
    """The file is not needed after all."""

    spool: str


# Delivery: queue to remote or local, and back.


class Attempt(Frame, frozen=True, tag=10):
    """Deliver to these recipients, all of one destination, in one transaction where the protocol can.

    ``destination`` is the scheduler's key and routing's decision in one (see routing.route.Destination):
    ``domain`` for MX look-up, or a static route's ``host:port``. If ``has_descriptor``, ``content`` is empty and a
    descriptor open for reading comes with the frame; ``checksum`` is CRC-32 of what must be there, 0 if unknown.
    """

    job: int
    message: int
    destination: bytes
    envelope: Envelope
    content: bytes
    size: int
    birth: float
    has_descriptor: bool = False
    checksum: int = 0


class Report(Frame, frozen=True, tag=11):
    """One outcome per recipient, in the order of the attempt's recipients.

    ``unreachable`` means that no next hop could be talked to at all, so that it makes no sense to try the next
    message at once.
    """

    job: int
    outcomes: list[Outcome]
    unreachable: bool = False


class HostState(Frame, frozen=True, tag=12):
    """tcpto memory: this address timed out at ``since`` (seconds of the epoch), or answers again (0)."""

    address: str
    since: float
    count: int


class Draining(Frame, frozen=True, tag=13):
    """A delivery process is to end: send it nothing more, and close the connection when all is reported."""


IntakeRequest = Inject | SpoolRequest | SpoolRelease
IntakeAnswer = Accepted | Rejected | SpoolGrant
DeliveryRequest = Attempt | HostState
DeliveryAnswer = Report | HostState | Draining

"""The ledger: how every accepted recipient ended, kept in the store beside the queue.

An entry is written in the transaction that ends the recipients, so that the two cannot differ after a crash. The
entry with a message's last end also says how the message began, because its row is gone from then on. What is still
in the queue needs no entry: the message's own row is its beginning. ``queue.audit`` holds the two against each other.

Where no ledger is to be kept, messages with several recipients have entries until they have left, because those who
ended and those who wait must be all.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import msgspec

from ekiden.base.envelope import Notify, Origin, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.queue.lane import Message
from ekiden.queue.sealing import place, seal, unseal

NOTICE = -1
"""In place of a part: what was told to the sender."""
ADMINISTRATOR = -2
"""In place of a part: what an administrator ended."""

_REPORT = 500
"""Characters of a report that are kept."""

_SPACE = str.maketrans("\n", " ")


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One recipient's end.

    ``end`` is ``delivered``, ``failed`` or ``deleted``; ``report`` what the next hop or the rule said, or which
    administrator it was; ``remote`` names the next hop.
    """

    recipient: bytes
    end: str
    status: str = ""
    report: str = ""
    remote: str = ""
    told: bool = False
    """Whether the sender is to be told of it."""
    local: bool = False
    """Whether it was to be delivered here."""


class Beginning(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a message came in. ``size`` in octets, ``checksum`` CRC-32 of the content (0: unknown), ``recipients``
    how many were accepted, ``birth`` seconds of the epoch, ``message_id`` that of its field, ``whom`` who were
    accepted (``whom``, 0: unknown)."""

    birth: float
    sender: bytes
    size: int
    checksum: int
    recipients: int
    origin: Origin
    message_id: bytes = b""
    whom: int = 0


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``notice`` is the id of the message that told the sender; 0 beside part NOTICE means that nobody was told,
    because the sender is itself such a notice (a triple bounce, or a double bounce where nobody wants those)."""

    ends: list[End] = []
    beginning: Beginning | None = None
    notice: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


WHOM = 1 << 32


def whom(addresses: Iterable[bytes]) -> int:
    """Who these are, in any order, as a number below ``WHOM``: the sum of CRC-32. Others have it by chance only."""
    return sum(map(crc32, addresses)) % WHOM


def ending(recipient: Recipient, outcome: Outcome, local: bool) -> End:
    """A recipient's end by an outcome that is final."""
    return End(
        recipient.address,
        "delivered" if outcome.verdict == Verdict.DELIVERED else "failed",
        outcome.status,
        outcome.text[:_REPORT].translate(_SPACE).rstrip(),
        outcome.remote,
        outcome.verdict == Verdict.FAILED and recipient.wants(Notify.FAILURE),
        local,
    )


def beginning(message: Message) -> Beginning:
    """What the message's own row says, for when it is gone."""
    meta = message.meta
    known = meta.checksum, meta.recipients, meta.origin, meta.message_id, meta.whom
    return Beginning(message.birth, message.sender, message.size, *known)


def encode(entry: Entry, message: int, part: int) -> bytes:
    """An entry as it is stored for this message and part."""
    return seal(_encode(entry), place(message, part))


def decode(stored: bytes, message: int, part: int) -> Entry:
    """One of ``queue.store.UNDECODABLE`` from what is not what was written."""
    return _decode(unseal(stored, place(message, part)))

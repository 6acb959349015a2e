"""How envelopes lie in the store's columns: as msgpack, behind a check that one flipped bit does not pass.

A sealed column is the octet ``TAG``, what was encoded, and CRC-32 of both, its lowest octet first. The check is also
made of what the octets belong to, so that they count in their own row only: an envelope to its message and sender,
recipients to their message and destination. What begins otherwise is from before there were seals, and is taken as it
is; no flipped bit makes the one of the other, because ``TAG`` is the octet that msgpack never uses.

Whatever is not what was written raises one of ``queue.store.UNDECODABLE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

import msgspec

from ekiden.base.envelope import Recipient
from ekiden.queue.store import UNDECODABLE, Ended, Meta

TAG = b"\xc1"
_RIGHT = 0x2144DF1C
"""What CRC-32 of anything and its own CRC-32 is."""

_ODD = 0x9E3779B1
"""Odd, so that no flipped bit of an id's lower 32 is lost; large, so that neighbouring ids lead to distant seeds."""

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_meta = msgspec.msgpack.Decoder(Meta)
_recipients = msgspec.msgpack.Decoder(list[Recipient])
_ended = msgspec.msgpack.Decoder(tuple[Ended, ...])


def seal(octets: bytes, seed: int) -> bytes:
    """A column's octets behind their check."""
    octets = TAG + octets
    return octets + crc32(octets, seed).to_bytes(4, "little")


def unseal(stored: bytes, seed: int) -> bytes:
    """What was sealed with this seed."""
    if not isinstance(stored, bytes):
        raise msgspec.DecodeError("not octets, as it was written")
    if stored[:1] != TAG:
        return stored
    if crc32(stored, seed) != _RIGHT:
        raise msgspec.DecodeError("its check does not fit")
    return stored[1:-4]


def place(message: int, other: int = 0) -> int:
    """The seed of what belongs to a message, and to a destination or a part."""
    return message * _ODD + other


def encode_meta(meta: Meta, message: int, sender: bytes) -> bytes:
    """An envelope's column, for this message and sender."""
    return seal(_encode(meta), crc32(sender, place(message)))


def decode_meta(stored: bytes, message: int, sender: bytes) -> Meta:
    """What ``encode_meta`` made for the same message and sender."""
    if not isinstance(sender, bytes):
        raise msgspec.DecodeError("its sender is not octets, as it was written")
    return _meta.decode(unseal(stored, crc32(sender, place(message))))


def encode_recipients(recipients: Sequence[Recipient], message: int, destination: int) -> bytes:
    """A part's column, for this message and destination."""
    return seal(_encode(recipients), place(message, destination))


def decode_recipients(stored: bytes, message: int, destination: int) -> list[Recipient]:
    """What ``encode_recipients`` made for the same message and destination."""
    return _recipients.decode(unseal(stored, place(message, destination)))


def damaged_recipients(stored: bytes) -> list[Recipient]:
    """What damaged octets say, to be shown to a person and used for nothing."""
    return _recipients.decode(stored[1:-4] if stored[:1] == TAG else stored)


def are_misplaced(stored: bytes, message: int, destination: int) -> bool:
    """Whether recipients are whole, and one bit of their message's or destination's id is what differs."""
    try:
        damaged_recipients(stored)
    except UNDECODABLE:
        # To the check a bit of the first octets is the same as one of the ids.
        return False
    return any(
        crc32(stored, seed) == _RIGHT
        for bit in (1 << number for number in range(32))
        for seed in (place(message ^ bit, destination), place(message, destination ^ bit))
    )


def encode_ended(ended: Sequence[Ended], message: int) -> bytes:
    """The column of those whose end waits for a notice."""
    return seal(_encode(ended), place(message))


def decode_ended(stored: bytes, message: int) -> tuple[Ended, ...]:
    """What ``encode_ended`` made for the same message."""
    return _ended.decode(unseal(stored, place(message)))


def key_check(key: bytes, destination: int) -> int:
    """The check of a destination's key, which has a column of its own, because keys are looked up."""
    return crc32(key, place(destination))

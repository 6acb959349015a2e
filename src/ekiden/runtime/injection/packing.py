"""The little of msgpack (msgpack.org, the format) that injection needs, for programs that must start at once.

Loading msgspec takes longer than everything else that qmail-inject does. What is packed here is decoded, with full
validation, by msgspec on the other side; what is unpacked here comes from our own queue process. Types: None, bool,
int of up to 64 bits, bytes, str, list.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Value = None | bool | int | bytes | str | Sequence["Value"]

_CONSTANTS: dict[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}
_INTEGERS = {0xCC: "B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: "b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_LENGTHS = {0xC4: "B", 0xC5: ">H", 0xC6: ">I", 0xD9: "B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I"}


def pack(value: Value) -> bytes:
    """The octets of one value; sizes are always written in four octets, integers in the fewest or in eight."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes((value,))
        return struct.pack(">BQ", 0xCF, value) if value > 0 else struct.pack(">Bq", 0xD3, value)
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, str):
        encoded = value.encode()
        return struct.pack(">BI", 0xDB, len(encoded)) + encoded
    return b"".join((struct.pack(">BI", 0xDD, len(value)), *map(pack, value)))


def unpack(data: bytes) -> Value:
    """The one value that ``data`` is; ValueError if it is not one of those, whole, or lists are nested too deeply."""
    try:
        value, end = _unpack(data, 0)
    except (IndexError, struct.error):
        raise ValueError("value cut off") from None
    except RecursionError:
        raise ValueError("lists nested too deeply") from None
    if end != len(data):
        raise ValueError(f"{len(data) - end} octets too many")
    return value


def _unpack(data: bytes, at: int) -> tuple[Value, int]:
    head = data[at]
    at += 1
    if head < 0x80 or head >= 0xE0:
        return (head if head < 0x80 else head - 256), at
    if head in _CONSTANTS:
        return _CONSTANTS[head], at
    if form := _INTEGERS.get(head):
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if form := _LENGTHS.get(head):
        (length,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
    elif head < 0xC0 and head >= 0x90:
        length = head & (0x0F if head < 0xA0 else 0x1F)
    else:
        raise ValueError(f"octet {head:#x} begins no value that is known here")
    if 0x90 <= head < 0xA0 or head in (0xDC, 0xDD):
        return _unpack_list(data, at, length)
    if at + length > len(data):
        raise IndexError
    octets = data[at : at + length]
    return (octets if head in (0xC4, 0xC5, 0xC6) else octets.decode()), at + length


def _unpack_list(data: bytes, at: int, length: int) -> tuple[Value, int]:
    values: list[Value] = []
    for _ in range(length):
        value, at = _unpack(data, at)
        values.append(value)
    return values, at

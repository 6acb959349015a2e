"""Questions to a recursive DNS server and its answers, as octets (RFC 1035 section 4).

Only what programs need that start for one connection and end with it: dnspython alone takes them longer to import
than all of their work. Records are taken from the answer section by type whoever owns them, so that aliases need no
second look: a recursive server has followed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, error
from typing import NamedTuple

A, PTR, TXT, AAAA = 1, 12, 16, 28
NO_ERROR, NAME_ERROR = 0, 3

_HEADER = Struct("!6H")
_QUESTION = Struct("!2H")
_RECORD = Struct("!2HIH")
_INTERNET = 1
_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8000
_TRUNCATED = 0x0200
_LONGEST_NAME = 255
_JUMPS = 100


class BadName(ValueError):
    """No such name can be asked for: a label that is too long, or too many of them."""


class BadAnswer(ValueError):
    """The octets are no answer to the question, or damaged."""


class Answer(NamedTuple):
    """``code`` is RCODE. ``data`` holds the records' data: addresses as packed, names without the final dot in lower
    case, text strings joined. ``truncated``: ask again by TCP.
    """

    code: int
    truncated: bool
    data: Sequence[bytes]


def encode_name(name: bytes) -> bytes:
    """A name in text form; dots too many, as at the end, count for nothing. Raises BadName."""
    labels = [label for label in name.split(b".") if label]
    if any(len(label) > 63 for label in labels):
        raise BadName(f"no domain name: {name!r}")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(encoded) > _LONGEST_NAME:
        raise BadName(f"too long for a domain name: {name!r}")
    return encoded


def encode_query(number: int, name: bytes, kind: int) -> bytes:
    """A question to a recursive server; ``number`` is its ID of 16 bits. Raises BadName."""
    return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + encode_name(name) + _QUESTION.pack(kind, _INTERNET)


def decode_answer(packet: bytes, query: bytes) -> Answer:
    """The answer to a query that ``encode_query`` made. Raises BadAnswer."""
    try:
        number, flags, questions, answers, _authority, _additional = _HEADER.unpack_from(packet)
        question = query[_HEADER.size :]
        start = _HEADER.size + len(question)
        asked = packet[_HEADER.size : start]
        if number != _HEADER.unpack_from(query)[0] or not flags & _RESPONSE:
            raise BadAnswer("an answer to something else")
        if questions != 1 or asked.lower() != question.lower():
            raise BadAnswer("an answer to another question")
        if flags & _TRUNCATED:
            return Answer(flags & 15, True, ())
        kind = _QUESTION.unpack_from(question, len(question) - _QUESTION.size)[0]
        return Answer(flags & 15, False, _records(packet, start, answers, kind))
    except (error, IndexError):
        raise BadAnswer("cut short") from None


def _records(packet: bytes, position: int, count: int, wanted: int) -> list[bytes]:
    found = []
    for _ in range(count):
        _name, position = _decode_name(packet, position)
        kind, family, _seconds, size = _RECORD.unpack_from(packet, position)
        position += _RECORD.size
        if position + size > len(packet):
            raise BadAnswer("cut short")
        if kind == wanted and family == _INTERNET:
            found.append(_data(packet, position, size, kind))
        position += size
    return found


def _data(packet: bytes, position: int, size: int, kind: int) -> bytes:
    if kind == PTR:
        return _decode_name(packet, position)[0]
    data = packet[position : position + size]
    if kind == TXT:
        return _joined(data)
    if len(data) != (4 if kind == A else 16):
        raise BadAnswer("an address of another size")
    return data


def _joined(data: bytes) -> bytes:
    strings, position = [], 0
    while position < len(data):
        end = position + 1 + data[position]
        if end > len(data):
            raise BadAnswer("a string that is longer than its record")
        strings.append(data[position + 1 : end])
        position = end
    return b"".join(strings)


def _decode_name(packet: bytes, position: int) -> tuple[bytes, int]:
    """The name at a position, and the position behind it."""
    labels: list[bytes] = []
    behind = -1
    for _ in range(_JUMPS + _LONGEST_NAME):
        size = packet[position]
        if size >= 192:
            behind = position + 2 if behind < 0 else behind
            position = (size & 63) << 8 | packet[position + 1]
        elif size >= 64:
            raise BadAnswer("a label of unknown form")
        else:
            position += 1
            if not size:
                return b".".join(labels).lower(), behind if behind >= 0 else position
            labels.append(packet[position : position + size])
            position += size
    raise BadAnswer("a name without an end")

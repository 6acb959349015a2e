"""A message's header section: where it ends, its fields, how often it was relayed (RFC 5322 section 2.2).

Content is in wire form: lines end with CRLF, and only CRLF ends a line; a CR or LF by itself is part of its line.
Anything is accepted: a line that is no field has the empty name, a message without an empty line is all header. Every
function takes the whole content or the header section alone, does not look beyond the first empty line, and takes
time linear in the header's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_NAME = re.compile(rb"([!-9;-~\x80-\xff]++)[ \t]*+:")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_MESSAGE_ID = re.compile(rb"\r\nmessage-id[ \t]*+:(?:[ \t]|\r\n[ \t])*+([!-~\x80-\xff]{1,500})", re.IGNORECASE)
MESSAGE_ID_WITHIN = 16_384
"""Octets of a content in which its Message-ID is looked for."""


class Field(NamedTuple):
    """One field. ``name`` is lower-case, empty if the line is no field; ``raw`` is its lines with the last CRLF."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded (RFC 5322 section 2.2.3), without white space around it."""
        _name, colon, rest = self.raw.partition(b":")
        return _FOLD.sub(b"", rest if colon and self.name else self.raw).strip()


def header_end(content: bytes) -> int:
    """Octets of the header section, its last CRLF included and the empty line not."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2


def split(content: bytes) -> tuple[bytes, bytes]:
    """Header section and body; the empty line between them belongs to neither."""
    end = header_end(content)
    return content[:end], content[end + 2 :]


def fields(content: bytes) -> Iterator[Field]:
    """The header section's fields, in order; continuation lines belong to the field before them."""
    start, end = 0, header_end(content)
    while start < end:
        found = _FIELD_END.search(content, start, end)
        stop = found.end() if found else end
        yield _field(content[start:stop])
        start = stop


def find(content: bytes, name: bytes) -> Field | None:
    """The first field of that name, whatever the case."""
    return next(find_all(content, name), None)


def find_all(content: bytes, name: bytes) -> Iterator[Field]:
    """Every field of that name, whatever the case, in order."""
    header = content[: header_end(content)]
    folded = b"\r\n" + header.lower()
    wanted = b"\r\n" + name.lower()
    at = folded.find(wanted)
    while at >= 0:
        # ``folded`` is two octets longer in front, so that the position of CRLF there is the field's start here.
        found = _FIELD_END.search(header, at)
        stop = found.end() if found else len(header)
        field = _field(header[at:stop])
        if field.name == name.lower():
            yield field
        at = folded.find(wanted, stop)


def hops(content: bytes) -> int:
    """How many ``Received`` and ``Delivered-To`` fields there are, which shows a loop (RFC 5321 section 6.3)."""
    header = b"\r\n" + content[: header_end(content)].lower()
    return (
        header.count(b"\r\nreceived:")
        + header.count(b"\r\ndelivered-to:")
        # White space before the colon is obsolete syntax (RFC 5322 section 4.5), and a way to hide a loop.
        + _spaced(header, b"received")
        + _spaced(header, b"delivered-to")
    )


def _spaced(header: bytes, name: bytes) -> int:
    start = b"\r\n" + name
    if start + b" " not in header and start + b"\t" not in header:
        return 0
    return len(re.findall(re.escape(start) + rb"[ \t]++:", header))


def _field(raw: bytes) -> Field:
    match = _NAME.match(raw)
    return Field(match.group(1).lower() if match else b"", raw)


def message_id(content: bytes) -> bytes:
    """The first word of the Message-ID field (RFC 5322 section 3.6.4), which names the message everywhere; at most
    500 octets, empty if there is none in the first 16 KiB. One search, because it is made of every message."""
    found = _MESSAGE_ID.search(b"\r\n" + content[: header_end(content[:MESSAGE_ID_WITHIN])])
    return found[1] if found else b""

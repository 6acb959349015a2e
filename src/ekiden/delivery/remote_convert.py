"""Eight-bit or binary content made 7-bit for a next hop that takes no other (RFC 6152 section 3, RFC 2045).

Only what needs it is touched: body parts with other octets than ASCII get quoted-printable (text) or base64 (the
rest), their Content-Transfer-Encoding says so, and that of the multiparts around them becomes 7bit. Everything else
stays octet for octet. Signed and encrypted parts are never touched, since that would break them.
"""

from __future__ import annotations

import base64
import binascii
import re
from email.message import Message
from email.parser import BytesHeaderParser

DEPTH = 50
"""Parts within parts; deeper is not mail but an attack."""

_FIELD = re.compile(rb"(?im)^content-transfer-encoding[ \t]*:(?:[^\r\n]|\r\n[ \t])*\r\n")
_PARAMETER = re.compile(r';((?:[^;"\\]|\\.|"(?:[^"\\]|\\.)*+"?+)*+)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_WIDE = frozenset({"8bit", "binary"})
_UNTOUCHABLE = frozenset({"multipart/signed", "multipart/encrypted"})
_CARRIERS = frozenset({"message/rfc822", "message/global"})


class UnconvertibleError(Exception):
    """The content cannot be converted; the text says why, for the sender."""


def to_sevenbit(content: bytes) -> bytes:
    """The content, in wire form, with every octet ASCII and no binary part. Raises UnconvertibleError."""
    header, body = _split(content)
    if not header.isascii():
        raise UnconvertibleError("its header is not ASCII")
    fields = _fields(header)
    if body.isascii() and not _is_binary(fields, body):
        return content
    if "mime-version" not in fields:
        # Not MIME at all: RFC 1428 says what to call it.
        header += b"MIME-Version: 1.0\r\n"
        if "content-type" not in fields:
            header += b"Content-Type: text/plain; charset=unknown-8bit\r\n"
    return _entity(header, body, 0, "text/plain")


def _split(entity: bytes) -> tuple[bytes, bytes]:
    """Header section with its last line's end, and body; the empty line between belongs to neither."""
    if entity.startswith(b"\r\n"):
        return b"", entity[2:]
    header, empty, body = entity.partition(b"\r\n\r\n")
    # A header without a body may lack its last line's end: fields will be written behind it.
    return (header + b"\r\n", body) if empty else (entity.removesuffix(b"\r\n") + b"\r\n", b"")


def _fields(header: bytes) -> Message:
    return BytesHeaderParser().parsebytes(header)


def _is_binary(fields: Message, body: bytes) -> bool:
    """Whether the part or one within says that it is binary; a false alarm only costs a walk."""
    return _encoding(fields) == "binary" or b"binary" in body.lower()


def _encoding(fields: Message) -> str:
    return str(fields.get("content-transfer-encoding", "7bit")).partition(";")[0].strip().lower()


def _entity(header: bytes, body: bytes, depth: int, default: str) -> bytes:
    """One body part with all it holds; ``default`` is its type if it does not say."""
    if depth > DEPTH:
        raise UnconvertibleError("its parts are nested too deeply")
    if not header.isascii():
        raise UnconvertibleError("the header of a part is not ASCII")
    fields = _fields(header)
    if body.isascii() and not _is_binary(fields, body):
        return header + b"\r\n" + body
    kind = _type(fields, default)
    if kind in _UNTOUCHABLE:
        raise UnconvertibleError("it holds a signed or encrypted part that is not 7-bit")
    if kind.startswith("multipart/"):
        inner = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        return _sevenbit_header(header, fields) + b"\r\n" + _multipart(fields, body, depth, inner)
    if kind in _CARRIERS:
        return _sevenbit_header(header, fields) + b"\r\n" + _entity(*_split(body), depth + 1, "text/plain")
    return _leaf(header, fields, body, kind)


def _type(fields: Message, default: str) -> str:
    """The media type in lower case; what is none counts as text (RFC 2045 section 5.2)."""
    if "content-type" not in fields:
        return default
    kind = str(fields["content-type"]).partition(";")[0].strip().lower()
    return kind if kind.count("/") == 1 else "text/plain"


def _boundary(fields: Message) -> bytes:
    """The parameter of that name; empty if there is none (RFC 2046 section 5.1.1).

    Not by the standard library, whose reading takes time with the square of the field's length and raises what it
    likes for the encodings of RFC 2231, which nobody needs for a boundary.
    """
    for parameter in _PARAMETER.findall(str(fields.get("content-type", ""))):
        name, _equals, value = parameter.partition("=")
        if name.strip().lower() == "boundary":
            value = value.strip()
            if value.startswith('"'):
                value = _QUOTED_PAIR.sub(r"\1", value[1:].removesuffix('"'))
            return str(value).rstrip().encode("ascii", "replace")
    return b""


def _multipart(fields: Message, body: bytes, depth: int, default: str) -> bytes:
    boundary = _boundary(fields)
    if not boundary:
        raise UnconvertibleError("a multipart names no boundary")
    line = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)")
    result = []
    start, delimiter = 0, b""
    closed = False
    for found in line.finditer(body):
        result.append(delimiter + _between(body[start : found.start()], bool(delimiter), depth, default))
        start, delimiter = found.end(), found.group()
        closed = found.group(1) is not None
        if closed:
            break
    if not delimiter:
        raise UnconvertibleError("a multipart does not hold its boundary")
    result.append(delimiter + _between(body[start:], not closed, depth, default))
    return b"".join(result)


def _between(piece: bytes, is_part: bool, depth: int, default: str) -> bytes:
    if is_part:
        return _entity(*_split(piece), depth + 1, default)
    if not piece.isascii():
        raise UnconvertibleError("text around its parts is not ASCII")
    return piece


def _leaf(header: bytes, fields: Message, body: bytes, kind: str) -> bytes:
    if _encoding(fields) not in (*_WIDE, "7bit"):
        raise UnconvertibleError("a part is not in the encoding that it names")
    is_lines = not any(octet in body.replace(b"\r\n", b"") for octet in (b"\r", b"\n", b"\0"))
    if kind.startswith("text/") and is_lines:
        encoded = binascii.b2a_qp(body)
        if b"\r\n" not in body:
            encoded = encoded.replace(b"=\n", b"=\r\n")
        name = b"quoted-printable"
    else:
        encoded = base64.encodebytes(body).replace(b"\n", b"\r\n")
        name = b"base64"
    return _FIELD.sub(b"", header) + b"Content-Transfer-Encoding: " + name + b"\r\n\r\n" + encoded


def _sevenbit_header(header: bytes, fields: Message) -> bytes:
    if _encoding(fields) not in _WIDE:
        return header
    return _FIELD.sub(b"Content-Transfer-Encoding: 7bit\r\n", header, count=1)

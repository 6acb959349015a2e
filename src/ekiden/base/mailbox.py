"""RFC 822 addresses as tokens: the lists in header fields, read, quoted and written as qmail does (addresses(5)).

A token is a kind and a text. Kinds are the seven special characters by themselves, and ATOM, QUOTE, LITERAL and
COMMENT, whose text is plain: quoting and brackets are off. White space parts tokens and is none. An atom that holds
what no atom may (control characters, octets above 126, and unlike in qmail spaces and specials that were escaped) is
read as a quoted string, so that it is written as one and means the same to whoever reads it next.
Encoded words (RFC 2047) are atoms like any other and come out as they went in.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Token = tuple[bytes, bytes]

ATOM = b"a"
QUOTE = b'"'
LITERAL = b"["
COMMENT = b"("
WORDS = frozenset({ATOM, QUOTE, LITERAL})
_TEXTS = WORDS | {COMMENT}

COMMA: Token = (b",", b"")
AT: Token = (b"@", b"")
LEFT: Token = (b"<", b"")
RIGHT: Token = (b">", b"")
COLON: Token = (b":", b"")

LINE_OCTETS = 80
"""A list is folded at commas where a line would become longer than this."""

_TOKEN = re.compile(
    rb"[ \t\r\n]*+(?:"
    rb"(?P<special>[.,@<>:;])"
    rb'|"(?P<quote>(?:[^"\\]|\\.)*+)"'
    rb"|\[(?P<literal>(?:[^\]\\]|\\.)*+)\]"
    rb"|(?P<comment>\()"
    rb'|(?![)\]])(?P<atom>(?:[^ \t\r\n(\["<>;:@,.\\]|\\.|\\\Z)++)'
    rb"|(?P<end>\Z))",
    re.DOTALL,
)
_COMMENT_PART = re.compile(rb"(?P<text>(?:[^()\\]|\\.)++)|(?P<paren>[()])", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)|\\\Z", re.DOTALL)
_TO_ESCAPE = re.compile(rb'["\[\]()\\\r\n]')
_NO_ATOM = re.compile(rb'[\x00-\x20\x7f-\xff()<>@,;:\\".\[\]]')

_DOT_ATOM = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++)*+")
_QUOTED_ESCAPE = re.compile(rb'["\\\r\n]')


class Malformed(ValueError):
    """Text that cannot be read as tokens, or tokens that are no address list."""


def parse(text: bytes) -> list[Token]:
    """The tokens of ``text``, a whole header field or an address; ``Malformed`` if brackets do not match."""
    tokens: list[Token] = []
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            raise Malformed(f"octet {position}")
        position = match.end()
        kind = match.lastgroup
        found = match[kind] if kind else b""
        if kind == "end":
            return tokens
        if kind == "special":
            tokens.append((found, b""))
        elif kind == "comment":
            comment, position = _comment(text, position)
            tokens.append((COMMENT, comment))
        elif kind == "atom":
            atom = _plain(found)
            # A backslash with nothing behind it is a word without octets, which only quotes can show.
            tokens.append((QUOTE if _NO_ATOM.search(atom) or not atom else ATOM, atom))
        else:
            tokens.append((QUOTE if kind == "quote" else LITERAL, _plain(found)))


def _plain(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: found[1] or b"", text) if b"\\" in text else text


def _comment(text: bytes, position: int) -> tuple[bytes, int]:
    """A comment's text without the parentheses nested in it, and where it ends."""
    parts: list[bytes] = []
    depth = 1
    while depth:
        match = _COMMENT_PART.match(text, position)
        if match is None:
            raise Malformed(f"comment not closed at octet {position}")
        position = match.end()
        if match["text"] is not None:
            parts.append(_plain(match["text"]))
        else:
            depth += 1 if match["paren"] == b"(" else -1
    return b"".join(parts), position


def unparse(tokens: Iterable[Token]) -> bytes:
    """Tokens as lines, folded after commas, the last one ended by LF."""
    pieces: list[bytearray] = [bytearray()]
    last = b""
    for kind, text in tokens:
        piece = pieces[-1]
        if _needs_space(last, kind):
            piece += b" "
        piece += _written(kind, text)
        if kind == b",":
            pieces.append(bytearray())
        last = kind
    return _fold(pieces)


def _written(kind: bytes, text: bytes) -> bytes:
    if kind in _TEXTS:
        if _TO_ESCAPE.search(text):
            text = _TO_ESCAPE.sub(rb"\\\g<0>", text)
        if kind == QUOTE:
            return b'"' + text + b'"'
        if kind == LITERAL:
            return b"[" + text + b"]"
        return b"(" + text + b")" if kind == COMMENT else text
    return kind


def _needs_space(before: bytes, after: bytes) -> bool:
    if not before:
        return False
    if before in b":," or after == b"<":
        return True
    return before in _TEXTS and after in _TEXTS


def _fold(pieces: Sequence[bytearray]) -> bytes:
    """Put as many pieces on a line as fit; two octets are allowed for the fold that may have to follow."""
    lines: list[bytes] = []
    line = bytes(pieces[0])
    for piece in pieces[1:]:
        if len(line) + 2 + len(piece) <= LINE_OCTETS:
            line += piece
        else:
            lines.append(line)
            line = b" " + piece
    return b"\n".join((*lines, line)) + b"\n"


def unquote(tokens: Iterable[Token]) -> bytes:
    """The address that tokens stand for, as an envelope has it: no quoting, no comments, no spaces."""
    return b"".join(
        b"[" + text + b"]" if kind == LITERAL else text if kind in WORDS else b"" if kind == COMMENT else kind
        for kind, text in tokens
    )


def needs_quote(local: bytes) -> bool:
    """Whether a local part has to be quoted in a header field."""
    return _DOT_ATOM.fullmatch(local) is None


def quote(address: bytes) -> bytes:
    """An envelope address as a header field writes it: the local part, all before the last @, quoted if need be."""
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = address, b""
    if not address or not needs_quote(local):
        return address
    return b'"' + _QUOTED_ESCAPE.sub(rb"\\\g<0>", local) + b'"' + at + domain

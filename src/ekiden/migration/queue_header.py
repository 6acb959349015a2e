"""The header of a message in sendmail's queue, put together as sendmail itself would send it by SMTP.

An H line is a header field with a condition in front: ``H?DF?Date: ...`` is for mailers that have one of the flags,
``H?${name}?...`` for messages that have the macro. In a field an octet 0x81 begins a macro, and 0xFF stands before
octets that mean themselves (op.me, "Queue file format"; read in files that sendmail 8.17 made).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ekiden.base.mailbox import Malformed, Token, parse
from ekiden.base.mailbox_list import rewrite_field

MAILER_FLAGS = frozenset(b"DFM")
"""Flags by which header fields are asked for that sendmail's SMTP mailers have (cf/README)."""

_CONDITION = re.compile(rb"\?(?:\$\{(\w+)\}|\$(.)|([^?$]*))\?", re.DOTALL)
_QUOTED_OCTET = re.compile(rb"\xff([\x80-\xff])", re.DOTALL)
_MACRO = re.compile(rb"\x81(\{\w+\}|.)", re.DOTALL)
_ADDRESSED = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"})


class Damaged(ValueError):
    """What is in the file is not a whole message; the text says why."""


class Header:
    """What conditions and macros depend on. ``local`` is put to addresses without a host."""

    def __init__(self, macros: Mapping[bytes, bytes], sender: bytes, local: bytes, drops_bcc: bool) -> None:
        self._macros = macros
        self._sender = sender
        self._local = local
        self._drops_bcc = drops_bcc

    def text(self, fields: Iterable[bytes]) -> bytes:
        """The header that these H lines, without the H, are; lines ended by LF. Raises Damaged."""
        return b"".join(self._fields(fields))

    def _fields(self, fields: Iterable[bytes]) -> Iterator[bytes]:
        for text in fields:
            match = _CONDITION.match(text)
            if match:
                text = text[match.end() :]
            if match and not self._asked_for(match):
                continue
            name = text.partition(b":")[0].strip().lower()
            if name == b"return-path" or (name == b"bcc" and self._drops_bcc):
                continue
            yield completed(self._expanded(text) + b"\n", self._local)

    def _asked_for(self, condition: re.Match[bytes]) -> bool:
        macro = condition[1] or condition[2]
        if macro:
            return bool(self._macros.get(macro))
        return not condition[3] or any(flag in MAILER_FLAGS for flag in condition[3])

    def _expanded(self, text: bytes) -> bytes:
        """Octets that are quoted as they were, macros replaced; only bare 0x81 marks a macro."""
        pieces = re.split(rb"(\xff[\x80-\xff])", text)
        pieces[::2] = [_MACRO.sub(self._macro, piece) for piece in pieces[::2]]
        return dequoted(b"".join(pieces))

    def _macro(self, match: re.Match[bytes]) -> bytes:
        name = match[1].strip(b"{}")
        if name == b"g":
            return self._sender
        if name not in self._macros:
            raise Damaged(f"a header field needs the macro {name.decode('latin-1')!r}, which it does not define")
        return self._macros[name]


def completed(field: bytes, local: bytes) -> bytes:
    """A header field, ended by LF, in which addresses without a host get one, as sendmail does when it sends.

    Without such addresses, and if it is no list of addresses, it stays as it is.
    """
    if field.partition(b":")[0].strip().lower().removeprefix(b"resent-") not in _ADDRESSED:
        return field
    host = parse(b"@" + local)
    short: list[list[Token]] = []

    def complete(address: list[Token]) -> list[Token]:
        if not address or any(kind == b"@" for kind, _text in address):
            return address
        short.append(address)
        return address + host

    try:
        rewritten = rewrite_field(field, complete)
    except Malformed:
        return field
    return rewritten if short else field


def dequoted(text: bytes) -> bytes:
    """Octets without the mark that says that they mean themselves."""
    return _QUOTED_OCTET.sub(rb"\1", text)

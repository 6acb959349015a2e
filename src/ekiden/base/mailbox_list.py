"""Address lists (RFC 822 section 6): every address found and replaced, everything around it kept.

Lists are read from right to left, where they are easy: what stands before an angle bracket is a phrase, what stands
before a semicolon is a group. Addresses parted by nothing but a space get the missing comma (qmail-header(5)).
"""

from __future__ import annotations

import re

from ekiden.base.mailbox import ATOM, COMMA, COMMENT, QUOTE, WORDS, Malformed, Token, parse, unparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Rewrite = Callable[[list[Token]], list[Token]]
    """Given one address without phrase and brackets, empty for ``<>``; returns what is to stand in its place."""

_FOLD = re.compile(rb"\r?\n(?=[ \t])")
"""Folding is no part of what it stands in, not even in quotes (RFC 5322 section 2.2.3)."""

_PHRASE = frozenset({COMMENT, ATOM, QUOTE, b"@", b"."})


def rewrite_field(field: bytes, rewrite: Rewrite) -> bytes:
    """A whole header field with its addresses rewritten, lines ended by LF; ``Malformed`` if it has no such list.

    Addresses are handed to ``rewrite`` from the last to the first.
    """
    # The line's end is not part of it either: behind a backslash it would become one, and end the header.
    tokens = parse(_FOLD.sub(b"", field).removesuffix(b"\n"))
    return unparse(tokens[:2] + rewrite_list(tokens[2:], rewrite))


def rewrite_list(tokens: Sequence[Token], rewrite: Rewrite) -> list[Token]:
    """A list's tokens with its addresses rewritten, from the last to the first; ``Malformed`` if it is no list."""
    return _Walk(tokens, rewrite).run()


class _Walk:
    """The way from the right end of a list to its left end; ``_out`` and ``_address`` are the wrong way round."""

    def __init__(self, tokens: Sequence[Token], rewrite: Rewrite) -> None:
        self._rest = list(tokens)
        self._rewrite = rewrite
        self._out: list[Token] = []
        self._address: list[Token] = []
        self._in_group = False
        self._word_may_follow = True

    def run(self) -> list[Token]:
        while self._rest:
            kind = self._rest[-1][0]
            if kind in WORDS:
                self._word()
            elif kind == COMMENT:
                self._pass()
            elif kind == b",":
                self._end_address()
                self._word_may_follow = True
                self._pass()
            elif kind == b">":
                self._bracketed()
            elif kind == b";":
                self._group_end()
            elif kind == b":":
                self._group_begin()
            else:
                self._word_may_follow = True
                self._address.append(self._rest.pop())
        self._end_address()
        return self._out[::-1]

    def _pass(self) -> None:
        self._out.append(self._rest.pop())

    def _word(self) -> None:
        if not self._word_may_follow:
            self._end_address(comma=True)
        self._word_may_follow = False
        self._address.append(self._rest.pop())

    def _end_address(self, comma: bool = False) -> None:
        if self._address:
            self._got_address()
            if comma:
                self._out.append(COMMA)

    def _got_address(self) -> None:
        self._out.extend(reversed(self._rewrite(self._address[::-1])))
        self._address.clear()

    def _bracketed(self) -> None:
        self._end_address(comma=True)
        self._pass()
        while self._rest and self._rest[-1][0] != b"<":
            self._address.append(self._rest.pop())
        self._got_address()
        if not self._rest:
            raise Malformed("> without <")
        self._pass()
        while self._rest and self._rest[-1][0] in _PHRASE:
            self._pass()
        self._word_may_follow = False

    def _group_end(self) -> None:
        self._end_address(comma=True)
        if self._in_group:
            raise Malformed("group within a group")
        self._in_group = True
        self._word_may_follow = True
        self._pass()

    def _group_begin(self) -> None:
        self._end_address()
        if not self._in_group:
            raise Malformed(": without ;")
        self._in_group = False
        while self._rest and self._rest[-1][0] != b",":
            self._pass()
        if self._rest:
            self._pass()
        self._word_may_follow = True

"""What a line of /etc/aliases, of an :include: file or of .forward names: addresses, programs, files, further lists.

A line is a list of addresses as in a header field (RFC 822 section 6), read from right to left as newaliases(1) and
dot-forward(1) do: spaces part addresses as commas do, phrases before angle brackets and comments are dropped, colons
mean nothing but in ``:include:``.
"""

from __future__ import annotations

from ekiden.base.mailbox import ATOM, COMMENT, LEFT, QUOTE, WORDS, Malformed, Token, parse, unquote

ADDRESS = "address"
PROGRAM = "program"
FILE = "file"
INCLUDE = "include"

_PHRASE = frozenset({COMMENT, ATOM, QUOTE, b"@", b"."})


class Entry:
    """One thing that a line names.

    ``text`` is an address without quoting, a command without its bar, or a file's name. ``has_host``: an address with
    an at sign that was not quoted.
    """

    __slots__ = ("has_host", "kind", "text")

    def __init__(self, kind: str, text: bytes, has_host: bool = False) -> None:
        self.kind = kind
        self.text = text
        self.has_host = has_host

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and (self.kind, self.text, self.has_host) == (
            other.kind,
            other.text,
            other.has_host,
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.text, self.has_host))

    def __repr__(self) -> str:
        return f"Entry({self.kind!r}, {self.text!r}, {self.has_host})"


def entries(line: bytes) -> list[Entry]:
    """What the line names, from the last to the first; ``Malformed`` if it cannot be read.

    ``<>`` gives an empty address. Unlike in the originals the bar may stand before the quotes: ``|"command"``.
    """
    return _Walk(parse(line)).run()


class _Walk:
    """The way from the right end of a line to its left end; ``_address`` is the wrong way round."""

    def __init__(self, tokens: list[Token]) -> None:
        self._rest = tokens
        self._address: list[Token] = []
        self._found: list[Entry] = []
        self._word_may_follow = True

    def run(self) -> list[Entry]:
        while self._rest:
            token = self._rest.pop()
            if token[0] in WORDS:
                self._word(token)
            elif token[0] == b",":
                self._end()
                self._word_may_follow = True
            elif token[0] == b":":
                self._colon()
            elif token[0] == b">":
                self._bracketed()
            elif token[0] not in (COMMENT, b";"):
                self._address.append(token)
                self._word_may_follow = True
        self._end()
        return self._found

    def _word(self, token: Token) -> None:
        if not self._word_may_follow and self._address:
            if token == (ATOM, b"|") and len(self._address) == 1 and self._address[0][0] == QUOTE:
                self._address[0] = (QUOTE, b"|" + self._address[0][1])
                return
            if token[0] == ATOM and token[1].startswith(b"|"):
                raise Malformed("a command with arguments must stand in quotes")
            self._end()
        self._word_may_follow = False
        self._address.append(token)

    def _colon(self) -> None:
        kinds = [kind for kind, _text in self._rest[-2:]]
        if kinds == [b":", ATOM] and self._rest[-1][1].lower() == b"include":
            del self._rest[-2:]
            name = unquote(reversed(self._address))
            self._address.clear()
            self._found.append(Entry(INCLUDE, name))

    def _bracketed(self) -> None:
        self._end()
        while self._rest and self._rest[-1] != LEFT:
            self._address.append(self._rest.pop())
        self._got()
        if not self._rest:
            raise Malformed("> without <")
        self._rest.pop()
        while self._rest and self._rest[-1][0] in _PHRASE:
            self._rest.pop()
        self._word_may_follow = False

    def _end(self) -> None:
        if self._address:
            self._got()

    def _got(self) -> None:
        has_host = any(kind == b"@" for kind, _text in self._address)
        text = unquote(reversed(self._address))
        self._address.clear()
        if not has_host and text.startswith(b"|"):
            self._found.append(Entry(PROGRAM, text[1:]))
        elif not has_host and text.startswith(b"/"):
            self._found.append(Entry(FILE, text))
        else:
            self._found.append(Entry(ADDRESS, text, has_host))

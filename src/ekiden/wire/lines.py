"""Lines on the wire: end of data, dot-stuffing, and newlines that are none (RFC 5321 sections 2.3.8, 4.5.2).

Content is octets whose lines end with CRLF. Data ends with CRLF . CRLF and nothing else: a lone LF or CR is never
taken for part of the mark, because two hosts that see the end in different places can be made to see a message in
between (SMTP smuggling). Everything works on whole blocks with the interpreter's own searches; there is no loop over
lines or octets.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

_END = b"\r\n.\r\n"
_DOT = re.compile(rb"\r\n\.")
# Both begin with their octet, so that the search leaps from one to the next.
_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_BARE_CR = re.compile(rb"\r(?!\n)")
_LEAPS = 20
"""Dots that are looked at one by one: base64, of which most large contents are made, has none outside the header, and
to leap from dot to dot is the faster the fewer there are. In prose the regular expression is."""


def stuff(content: bytes) -> bytes:
    """Content with a dot put before every dot that begins a line; the end mark is not added."""
    # Most content has no such line, and to look costs less than to replace.
    stuffed = content.replace(b"\r\n.", b"\r\n..") if _dotted_line(content) >= 0 else content
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def _dotted_line(data: bytes) -> int:
    """Where the first CRLF is that a dot follows; -1 if there is none."""
    at = -1
    for _ in range(_LEAPS):
        at = data.find(b".", at + 1)
        if at < 0:
            return -1
        if data[max(0, at - 2) : at] == b"\r\n":
            return at - 2
    found = _DOT.search(data, at)
    return found.start() if found else -1


def is_whole(block: bytes) -> bool:
    """Whether every CR and every LF in the block is half of a CRLF."""
    # The decoder for text files notes which line ends it has seen, in one pass, faster than two searches.
    seen = IncrementalNewlineDecoder(None, translate=False)
    seen.decode(block.decode("latin-1"), final=True)
    return seen.newlines in (None, "\r\n")


def mend_newlines(block: bytes) -> bytes:
    """The block with each lone LF made CRLF and each lone CR made a space.

    A lone CR does not end a line, because ``CR CR LF``, which broken clients write, would then end the header.
    """
    return _BARE_LF.sub(b"\r\n", _BARE_CR.sub(b" ", block))


def pair_split(block: bytes) -> int:
    """Octets at the block's end that must wait for the next one to come, lest a CRLF be cut in two: 0 or 1."""
    return 1 if block.endswith(b"\r") else 0


class DotReader:
    """Takes the octets after DATA in pieces of any size; gives the content without stuffing.

    Keeps back at most four octets that may be the beginning of the end mark.
    """

    __slots__ = ("_held", "_skip")

    def __init__(self) -> None:
        # The command's own CRLF stands before the content: a dot may begin, and end, the very first line.
        self._held = b"\r\n"
        self._skip = 2

    def read(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Content as far as it is known, and what follows the end mark; None in its place before the end."""
        data = self._held + data
        dot = _dotted_line(data)
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            return self._content(data[: end + 2], dot < end), data[end + 5 :]
        kept = _held_back(data)
        self._held = data[len(data) - kept :]
        block = data[: len(data) - kept] if kept else data
        return (self._content(block, dot >= 0) if block else b""), None

    def _content(self, block: bytes, stuffed: bool) -> bytes:
        if stuffed:
            block = block.replace(b"\r\n.", b"\r\n")
        if self._skip:
            self._skip = 0
            return block[2:]
        return block


def _held_back(data: bytes) -> int:
    """Length of the longest end of ``data`` that the end mark begins with."""
    if data.endswith(b"\r\n.\r"):
        return 4
    if data.endswith(b"\r\n."):
        return 3
    if data.endswith(b"\r\n"):
        return 2
    return pair_split(data)


class LineGauge:
    """Finds the longest line of whole content that comes in blocks, which may be cut anywhere but within a CRLF."""

    __slots__ = ("_begun", "longest")

    def __init__(self) -> None:
        self._begun = 0
        self.longest = 0

    def measure(self, block: bytes) -> int:
        """Take the next block; the longest line so far, in octets without its CRLF."""
        if block:
            lengths = list(map(len, block.split(b"\r\n")))
            lengths[0] += self._begun
            self._begun = lengths[-1]
            self.longest = max(self.longest, max(lengths))
        return self.longest

"""Content on its way out: dot-stuffing (RFC 5321 section 4.5.2), whole or in pieces."""

from __future__ import annotations

from ekiden.wire import lines

_END = b".\r\n"


def stuff(content: bytes) -> bytes:
    """The whole content as DATA carries it: dots doubled at line starts, CRLF at the end, the final dot."""
    stuffed = lines.stuff(content)
    return stuffed + (_END if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n" + _END)


class DotStuffer:
    """The same for content that comes in pieces cut anywhere; remembers the last two octets."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"

    def stuff(self, piece: bytes) -> bytes:
        """The next piece as DATA carries it."""
        joined = self._tail + piece
        stuffed = joined.replace(b"\r\n.", b"\r\n..")[len(self._tail) :]
        self._tail = joined[-2:]
        return stuffed

    def finish(self) -> bytes:
        """What ends the content: a CRLF if one is missing, and the final dot."""
        return _END if self._tail == b"\r\n" else b"\r\n" + _END

"""A message on its way to a POP3 client: lines end with CRLF, dots that begin one are doubled (RFC 1939 section 3).

Mailboxes keep lines that end with LF, or with CRLF where another program wrote them; both count as one line end. What
ends without a newline gets one. Everything works on blocks; there is no loop over lines.
"""

from __future__ import annotations

from ekiden.wire.lines import stuff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

END = b".\r\n"
_WHOLE_LINE = b"\r\n"


def whole(message: bytes) -> bytes:
    """A message, as it is in a mailbox, as it is on the wire, without the mark at its end."""
    data = _crlf(message)
    if data and not data.endswith(_WHOLE_LINE):
        data += _WHOLE_LINE
    return stuff(data)


def octets(message: bytes) -> int:
    """What LIST says of a message: its octets on the wire, doubled dots not counted (RFC 1939 section 11)."""
    size = len(message) + message.count(b"\n") - message.count(b"\r\n")
    return size + 2 if message and not message.endswith(b"\n") else size


class Measure:
    """``octets`` of a message that comes in pieces."""

    def __init__(self) -> None:
        self._size = 0
        self._last = b""

    def add(self, piece: bytes) -> None:
        """The next piece, not empty."""
        self._size += len(piece) + piece.count(b"\n") - piece.count(b"\r\n")
        if self._last == b"\r" and piece.startswith(b"\n"):
            self._size -= 1
        self._last = piece[-1:]

    @property
    def octets(self) -> int:
        """Of all pieces so far."""
        return self._size + 2 if self._last not in (b"", b"\n") else self._size


def pieces(message: Iterable[bytes]) -> Iterator[bytes]:
    """``whole`` for a message that comes in pieces."""
    # A line begins at the very beginning; CR may wait for its LF.
    before, held = _WHOLE_LINE, b""
    for piece in message:
        data = held + piece
        held = b"\r" if data.endswith(b"\r") else b""
        data = _crlf(data[: len(data) - len(held)])
        if not data:
            continue
        # With the end of what was said before in front, a dot that begins this piece is seen as what it is.
        yield stuff(before + data)[len(before) :]
        before = data[-2:] if data.endswith(_WHOLE_LINE) else b"x"
    if held:
        yield held
    if held or before != _WHOLE_LINE:
        yield _WHOLE_LINE


def top(message: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The header, the blank line and the first ``lines`` of the body, as they are in the mailbox (for ``pieces``)."""
    in_body, before = False, b"\n"
    for piece in message:
        start = 0
        if not in_body:
            start = _body_start(before, piece)
            in_body = start >= 0
        if not in_body:
            before = (before + piece)[-2:]
            yield piece
            continue
        end = start
        while lines:
            newline = piece.find(b"\n", end)
            if newline < 0:
                end = len(piece)
                break
            end = newline + 1
            lines -= 1
        if end:
            yield piece[:end]
        if not lines:
            return


def _body_start(before: bytes, piece: bytes) -> int:
    """Where the body begins in this piece of a header; -1 if it does not. ``before``: the last octets before it."""
    data = before + piece
    ends = [at + len(mark) for mark in (b"\n\n", b"\n\r\n") if (at := data.find(mark)) >= 0]
    return min(ends) - len(before) if ends else -1


def _crlf(data: bytes) -> bytes:
    # The search for one octet is many times faster than for two.
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    return data.replace(b"\n", b"\r\n")

"""Netstrings (cr.yp.to/proto/netstrings.txt): decimal length, colon, so many octets, comma."""

from __future__ import annotations

from collections.abc import Generator

CONTENT_OCTETS = 2_000_000_000
"""Longest netstring taken, in octets."""

ADDRESS_OCTETS = 999
"""Longest envelope address taken, as in the original programs."""


class Malformed(Exception):
    """The input is not what the protocol says."""


class Oversized(Malformed):
    """More than is taken."""


def netstring(octets: bytes) -> bytes:
    """The octets as a netstring."""
    return b"%d:%b," % (len(octets), octets)


class Input:
    """Octets that have come. The reading methods are generators that give None while there is nothing to read.

    Between ``enter`` and ``leave`` no more is read than the netstring around it has.
    """

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self.left: int | None = None

    def __len__(self) -> int:
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """More octets from the client."""
        self._data = self._data[self._at :] + data if len(self) else data
        self._at = 0

    def enter(self, size: int) -> None:
        """What follows is inside a netstring of ``size`` octets."""
        self.left = size

    def leave(self) -> Generator[None, None, None]:
        """Read the comma of the netstring that was entered, all of which has been read."""
        self.left = None
        yield from self.comma()

    def some(self, most: int) -> Generator[None, None, bytes]:
        """One to ``most`` octets, as many as there are."""
        if self.left is not None and most > self.left:
            raise Malformed("a netstring is longer than the one around it")
        while not len(self):
            yield None
        piece = self._data[self._at : self._at + most]
        self._at += len(piece)
        if self.left is not None:
            self.left -= len(piece)
        return piece

    def exactly(self, count: int) -> Generator[None, None, bytes]:
        """So many octets; few enough to be kept."""
        pieces = []
        while count:
            pieces.append((yield from self.some(count)))
            count -= len(pieces[-1])
        return b"".join(pieces)

    def skip(self, count: int) -> Generator[None, None, None]:
        """Read octets that nobody wants."""
        while count:
            count -= len((yield from self.some(count)))

    def length(self, most: int = CONTENT_OCTETS) -> Generator[None, None, int]:
        """The length of a netstring, with its colon."""
        digits = b""
        while (octet := (yield from self.some(1))) != b":":
            if not octet.isdigit() or digits == b"0":
                raise Malformed("a netstring does not begin with its length")
            digits += octet
            if int(digits) > most:
                raise Oversized(f"a netstring is longer than {most} octets")
        if not digits:
            raise Malformed("a netstring does not begin with its length")
        return int(digits)

    def comma(self) -> Generator[None, None, None]:
        """What ends a netstring."""
        if (yield from self.some(1)) != b",":
            raise Malformed("a netstring does not end with a comma")

    def address(self) -> Generator[None, None, bytes | None]:
        """A netstring that is an address; None for one that cannot be handled."""
        length = yield from self.length()
        if length > ADDRESS_OCTETS:
            yield from self.skip(length)
            address = None
        else:
            address = yield from self.exactly(length)
        yield from self.comma()
        return None if address is None or b"\0" in address else address

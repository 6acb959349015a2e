"""Standard input as a file that programs may put something in front of, or change on its way."""

from __future__ import annotations

import os
from io import BufferedReader, RawIOBase
from itertools import chain

from ekiden.wire.carriage import without_cr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

READ = 262_144


def standard_input(first: bytes = b"", plain_newlines: bool = False) -> IO[bytes]:
    """Descriptor 0 with ``first`` in front.

    ``plain_newlines``: if the first line ends with CRLF, every CRLF becomes LF, as programs expect who write SMTP's
    lines where the host's are meant; the first line tells which they are.
    """
    pieces = iter(lambda: os.read(0, READ), b"")
    return BufferedReader(_Raw(chain((first,), _plain(pieces) if plain_newlines else pieces)), READ)


def _plain(pieces: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for piece in pieces:
        start += piece
        if b"\n" in start:
            break
    rest = chain((start,), pieces)
    return without_cr(rest) if start.partition(b"\n")[0].endswith(b"\r") else rest


class _Raw(RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

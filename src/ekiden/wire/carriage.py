"""Line ends from LF to CR LF and back, over pieces of any size (addcr.1, delcr.1, fixcrio.1)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def add_cr(piece: bytes) -> bytes:
    """A CR before each LF, whether or not there is one already."""
    return piece.replace(b"\n", b"\r\n")


class Remover:
    """Takes one CR away before each LF; others stay."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """A piece without those CRs. One at its end is held until it is known what follows."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        return piece[: len(piece) - len(self._held)].replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """What is still held at the end of the input."""
        held, self._held = self._held, b""
        return held


def without_cr(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces, cut anywhere, with each CR LF made LF; none of them is empty."""
    remover = Remover()
    for piece in pieces:
        if kept := remover.feed(piece):
            yield kept
    if held := remover.finish():
        yield held


class Inserter:
    """Puts a CR before each LF that has none."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, piece: bytes) -> bytes:
        """A piece with those CRs."""
        if not piece:
            return b""
        before = b"\r" if self._after_cr else b""
        self._after_cr = piece.endswith(b"\r")
        whole = (before + piece).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return whole[len(before) :]

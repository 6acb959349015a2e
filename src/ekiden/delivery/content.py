"""A message's content on its way into mailboxes: read from where it is, given with lines ended by LF.

Three sources: octets in wire form from a frame, a spool file in wire form, and qmail-local's descriptor 0, which has
LF already. Descriptors are read at positions of our own, because their file offset is shared with other deliveries.
Reading errors are OSError.
"""

from __future__ import annotations

import os

from ekiden.delivery.report import DAMAGED
from ekiden.wire.carriage import add_cr, without_cr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 256 * 1024
"""Octets read at a time."""


class Content:
    """Base of the three. A content is closed when its delivery has ended."""

    def __init__(self) -> None:
        self._copy = -1

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of arbitrary length, lines ended by LF."""
        raise NotImplementedError

    def wire(self) -> Iterator[bytes]:
        """The content in pieces of arbitrary length, lines ended by CRLF."""
        raise NotImplementedError

    def descriptor(self) -> int:
        """A seekable descriptor at the content's first octet, for programs; it stays this object's."""
        if self._copy < 0:
            self._copy = in_memory(self.chunks())
        os.lseek(self._copy, 0, os.SEEK_SET)
        return self._copy

    def close(self) -> None:
        """Give back what ``descriptor`` made."""
        if self._copy >= 0:
            os.close(self._copy)
            self._copy = -1

    def header_has(self, line: bytes) -> bool:
        """Whether the header section holds exactly this line (LF included)."""
        rest = b""
        for chunk in self.chunks():
            # A line is kept until its end is seen; one that is longer than the wanted one is only skipped over.
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for candidate in lines:
                if not candidate:
                    return False
                if candidate == line[:-1]:
                    return True
            rest = rest[: len(line)]
        return False


class WireContent(Content):
    """Octets in wire form."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self._plain = data.replace(b"\r\n", b"\n")

    def chunks(self) -> Iterator[bytes]:
        return iter((self._plain,))

    def wire(self) -> Iterator[bytes]:
        return iter((self.data,))

    def header_has(self, line: bytes) -> bool:
        end = 0 if self._plain.startswith(b"\n") else self._plain.find(b"\n\n")
        header = self._plain if end < 0 else self._plain[: end + 1]
        return header.startswith(line) or b"\n" + line in header


class WireFile(Content):
    """A file in wire form, open for reading; closed with this object."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        return without_cr(self.wire())

    def wire(self) -> Iterator[bytes]:
        return pieces(self._file)

    def close(self) -> None:
        super().close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class PlainFile(Content):
    """A seekable file with lines ended by LF, such as qmail-local's descriptor 0; programs are given it itself."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        return pieces(self._file)

    def wire(self) -> Iterator[bytes]:
        return map(add_cr, self.chunks())

    def descriptor(self) -> int:
        os.lseek(self._file, 0, os.SEEK_SET)
        return self._file


def pieces(file: int) -> Iterator[bytes]:
    """A file's octets from its beginning, whatever its offset is."""
    at = 0
    while piece := os.pread(file, PIECE, at):
        at += len(piece)
        yield piece


def damage(file: int, known: int) -> str:
    """Why a file must not be delivered, "" if it may: it is not what came in, of which CRC-32 is ``known`` (or 0)."""
    from zlib import crc32

    made = 0
    try:
        for piece in pieces(file) if known else ():
            made = crc32(piece, made)
    except OSError as error:
        return f"Unable to read message: {error.strerror}. (#4.3.0)\n"
    return "" if made == known else DAMAGED


def in_memory(chunks: Iterator[bytes]) -> int:
    """An anonymous file with these octets, sealed so that no program can change what the next one reads."""
    import fcntl

    descriptor = os.memfd_create("message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write every octet; OSError if that cannot be done."""
    written = os.write(descriptor, data)
    while written < len(data):
        data = data[written:]
        written = os.write(descriptor, data)

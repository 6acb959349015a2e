"""A message read from a file as the programs on this host write it: lines ended by LF, header fields, then the body.

What is wrong is put right as qmail does it: an mbox's ``From `` line becomes the field MBOX-Line, a line that is no
field begins the body, which then gets the empty line it lacks in front, and the last line gets its end.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
"""What begins a field: printable ASCII without spaces, then a colon (qmail-header(5))."""

_READ = 262_144


class HeaderBody:
    """One message. First ``fields``, to the end, then ``body``. OSError if the file cannot be read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first = b""

    def fields(self) -> Iterator[bytes]:
        """The header's fields, each with the lines it is folded over; every line ends with LF."""
        field: list[bytes] = []
        for line in self._file:
            if not line.endswith(b"\n"):
                line += b"\n"
            if field and line[:1] in b" \t":
                field.append(line)
                continue
            if field:
                yield b"".join(field)
            if line.startswith(b"From "):
                line = b"MBOX-Line: " + line
            if not NAME.match(line):
                self._first = line if line == b"\n" else b"\n" + line
                return
            field = [line]
        if field:
            yield b"".join(field)

    def body(self) -> Iterator[bytes]:
        """What follows the header, in pieces, the empty line first; nothing if the message ends with the header."""
        if not self._first:
            return
        yield self._first
        last = b"\n"
        while piece := self._file.read(_READ):
            yield piece
            last = piece[-1:]
        if last != b"\n":
            yield b"\n"


def field_name(field: bytes) -> bytes:
    """A field's name in lower case, empty if it is no field."""
    match = NAME.match(field)
    return match[1].lower() if match else b""


def field_text(field: bytes) -> bytes:
    """What follows a field's colon and the white space after it, folding and last line end included."""
    return field.partition(b":")[2].lstrip(b" \t\r\n")


def for_terminal(text: bytes, instead: bytes) -> bytes:
    """Text of strangers as a terminal may have it: ``instead`` stands for each octet that is not printable ASCII."""
    return b"".join(b"%c" % octet if 32 <= octet <= 126 else instead for octet in text)

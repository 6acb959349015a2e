"""qbiff: tell the user about a new message on every terminal where biff is on, from a .qmail file (qbiff(1)).

Who and what comes from USER, SENDER and LOCAL (qmail-command(8)) and from the message on descriptor 0. The exit code
is 0 whatever happens: no delivery may fail because of this.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct

from ekiden.base.header_body import HeaderBody, field_name, field_text, for_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UTMP = "/var/run/utmp"
DEVICES = "/dev"

_READ = 65_536
_WIDTH = 78
_ENTRY = struct.Struct("hi32s4s32s")
_ENTRY_OCTETS = 384
_USER_PROCESS = 7
"""Linux's utmp(5): type, process, line, id, user, and more that is of no interest here."""


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    with contextlib.suppress(OSError, KeyError):
        user, sender, local = (os.environb[name] for name in (b"USER", b"SENDER", b"LOCAL"))
        told = b"\r\n\a%b\r\n%b\r\n" % (for_terminal(b"*** TO <%b> FROM <%b>" % (local, sender), b"_"), _gist())
        for terminal in terminals(user, UTMP):
            _tell(os.path.join(os.fsencode(DEVICES), terminal), told)
    return 0


def _gist() -> bytes:
    """The subject and as much of the body as fits on the line."""
    text = b"    "
    with open(0, "rb", buffering=_READ, closefd=False) as message:
        read = HeaderBody(message)
        for field in read.fields():
            if field_name(field) == b"subject":
                text += field_text(field)
        for piece in read.body():
            if len(text) >= _WIDTH:
                break
            text += piece
    return for_terminal(text[:_WIDTH], b"/")


def terminals(user: bytes, utmp: str) -> Iterator[bytes]:
    """The terminals, relative to /dev, that a user is logged in on; OSError if the list cannot be read."""
    with open(utmp, "rb") as file:
        data = file.read()
    for at in range(0, len(data) - _ENTRY_OCTETS + 1, _ENTRY_OCTETS):
        kind, _process, line, _id, name = _ENTRY.unpack_from(data, at)
        line = line.rstrip(b"\0")
        if kind == _USER_PROCESS and name.rstrip(b"\0") == user and line and line[:1] != b"/" and b"." not in line:
            yield line


def _tell(terminal: bytes, text: bytes) -> None:
    """Write to a terminal whose owner is the user and has biff on, which is the owner's right to execute."""
    with contextlib.suppress(OSError):
        descriptor = os.open(terminal, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if status.st_mode & stat.S_IXUSR and status.st_uid == os.getuid():
                os.write(descriptor, text)
        finally:
            os.close(descriptor)

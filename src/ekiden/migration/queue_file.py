"""One message of sendmail's queue: control file qfID (op.me, appendix "Queue file format") and data file dfID.

Written against versions 0 to 8 of the format, and files that sendmail 8.17 made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ekiden.base.envelope import Body, Envelope, Notify, Recipient
from ekiden.migration.queue_header import Damaged, Header, dequoted
from ekiden.migration.quoting import unquoted

NEWEST = 8
"""Version of the format in sendmail 8.12 to 8.18."""


_NOT_ADDRESS = (b"|", b"/", b":", b'"|', b'"/', b'":')


@dataclass
class QueueFile:
    """What a qf file says. ``birth`` is in seconds of the epoch."""

    birth: float
    envelope: Envelope
    header: bytes
    """Lines ended by LF, without the empty line behind it."""
    data_directory: bytes = b""
    quarantine: bytes = b""
    programs: list[bytes] = field(default_factory=list)
    """Recipients that are no addresses: programs and files that aliases lead to."""

    def content(self, body: bytes) -> bytes:
        """The message with its body as in the df file, in wire form."""
        return (self.header + b"\n" + body).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def read_queue_file(raw: bytes, local: bytes) -> QueueFile:
    """Take a qf file apart. ``local`` is put to addresses without a host. Raises Damaged."""
    reader = _Reader(local)
    ended = False
    for line in _folded(raw):
        if ended:
            raise Damaged("there is something behind its end")
        ended = line == b"."
        if not ended and line:
            reader.take(line[:1], line[1:])
    if not ended:
        raise Damaged("the line with a dot, its end, is missing")
    return reader.finish()


def _folded(raw: bytes) -> Iterator[bytes]:
    """Lines with those that continue them."""
    held: list[bytes] = []
    lines = raw.split(b"\n")
    if lines.pop():
        raise Damaged("its last line has no end")
    for line in lines:
        if held and line[:1] in (b" ", b"\t"):
            held.append(line)
            continue
        if held:
            yield b"\n".join(held)
        held = [line]
    if held:
        yield b"\n".join(held)


class _Reader:
    """Takes lines in order; a Q line is about the R line that follows."""

    def __init__(self, local: bytes) -> None:
        self._local = local
        self._version = 0
        self._birth: float | None = None
        self._sender: bytes | None = None
        self._recipients: list[Recipient] = []
        self._programs: list[bytes] = []
        self._orcpt = b""
        self._flags = b""
        self._body = b""
        self._envid = b""
        self._directory = b""
        self._quarantine = b""
        self._macros: dict[bytes, bytes] = {}
        self._fields: list[bytes] = []

    def take(self, letter: bytes, text: bytes) -> None:
        """One line. Letters that mean nothing for delivery (A C E G I K L M N P X Y a r !) are passed over."""
        if letter == b"V":
            self._version = _number(letter, text)
            if self._version > NEWEST:
                raise Damaged(f"its format is of version {self._version}; up to {NEWEST} is known")
        elif letter == b"T":
            self._birth = float(_number(letter, text))
        elif letter == b"S":
            self._sender = self._address(text)
        elif letter == b"Q":
            self._orcpt = text.strip()
        elif letter == b"R":
            self._recipient(text)
        elif letter == b"H":
            self._fields.append(text)
        elif letter == b"$":
            name, _, value = text[1:].partition(b"}") if text[:1] == b"{" else (text[:1], b"", text[1:])
            self._macros[name] = value
        elif letter in _KEPT:
            setattr(self, _KEPT[letter], text.strip())
        elif letter not in _PASSED_OVER:
            raise Damaged(f"a line begins with {letter.decode('latin-1')!r}, which is not known")

    def _recipient(self, text: bytes) -> None:
        flags = b""
        if self._version >= 1:
            flags, colon, text = text.partition(b":")
            if not colon:
                raise Damaged("an R line has no colon")
        orcpt, self._orcpt = self._orcpt, b""
        if text.startswith(_NOT_ADDRESS):
            self._programs.append(text)
            return
        self._recipients.append(Recipient(self._address(text), _notify(flags), orcpt))

    def _address(self, text: bytes) -> bytes:
        """An address as on the wire, or without brackets: unquoted, complete."""
        address = dequoted(text.strip())
        if address.startswith(b"<") and address.endswith(b">"):
            address = address[1:-1]
        if address.startswith(b"@") and b":" in address:
            # A source route, which counts for nothing (RFC 5321 appendix C).
            address = address.partition(b":")[2]
        at = _at(address)
        part, rest = address[:at], address[at:]
        if part.startswith(b'"') and part.endswith(b'"') and len(part) > 1:
            part = part[1:-1]
        part = re.sub(rb"\\(.)", rb"\1", part, flags=re.DOTALL)
        if not part and not rest:
            return b""
        return part + (rest or b"@" + self._local)

    def finish(self) -> QueueFile:
        if self._birth is None or self._sender is None:
            raise Damaged("the T line, its age, is missing" if self._birth is None else "the S line is missing")
        drops_bcc = b"b" in self._flags
        header = Header(self._macros, self._sender, self._local, drops_bcc).text(self._fields)
        if not self._recipients and not self._programs:
            raise Damaged("it has no recipients")
        eight = self._body.upper() == b"8BITMIME" or b"8" in self._flags
        ret = b"" if b"d" not in self._flags else b"HDRS" if b"n" in self._flags else b"FULL"
        kind = Body.EIGHTBIT if eight else Body.SEVENBIT
        utf8 = not all(address.isascii() for address in (self._sender, *(one.address for one in self._recipients)))
        envelope = Envelope(self._sender, self._recipients, kind, utf8, ret, self._envid)
        return QueueFile(self._birth, envelope, header, self._directory, self._quarantine, self._programs)


_KEPT = {b"F": "_flags", b"B": "_body", b"Z": "_envid", b"d": "_directory", b"q": "_quarantine"}
_PASSED_OVER = frozenset(b"%c" % letter for letter in b"ACDEGIKLMNPXYar!")


def _number(letter: bytes, text: bytes) -> int:
    if not text.strip().isdigit() or len(text) > 15:
        raise Damaged(f"the {letter.decode()} line has no number")
    return int(text)


def _notify(flags: bytes) -> Notify:
    """RFC 3461's NOTIFY from an R line's flags: N says that the sender asked for something, S, F and D for what."""
    if b"N" not in flags:
        return Notify.DEFAULT
    wanted = Notify.DEFAULT
    for letter, meaning in ((b"S", Notify.SUCCESS), (b"F", Notify.FAILURE), (b"D", Notify.DELAY)):
        wanted |= meaning if letter in flags else Notify.DEFAULT
    return wanted or Notify.NEVER


def _at(address: bytes) -> int:
    """Where the host begins, with its at sign; the end without one. An at sign in quotes is none."""
    return max(unquoted(address, 0x40), default=len(address))

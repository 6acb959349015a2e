"""Replies of an SMTP or LMTP server, cut out of the stream (RFC 5321 section 4.2).

A reply stays the octets it came in; its first octet is the digit that decides. Text is made only where a person
will read it. Lines may end in a bare LF: nothing can be smuggled to us that way, and qmail-remote takes them too.
"""

from __future__ import annotations

import re

MAXIMUM_REPLY = 16 * 1024
"""Octets of one reply, all lines together; RFC 5321 section 4.5.3.1.5 asks for 512 a line."""

REPORT_OCTETS = 5000
"""As much of a reply as a report shows."""

_WHOLE = re.compile(rb"([2-5][0-9][0-9])(?:-[^\n]*\n\1)*(?: [^\n]*)?\r?\n")
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:(-)[^\n]*|(?: [^\n]*)?\r?)")
_BEGINNING = re.compile(rb"(?:[2-5](?:[0-9](?:[0-9](?:[ -][^\n]*|\r)?)?)?)?")
_STATUS = re.compile(rb"[245][0-9][0-9][ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=[\s]|$)")
_CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "?")


class UnreadableError(Exception):
    """The server sent something that is no reply, or too much of it; the session cannot go on."""


class ReplyReader:
    """Takes octets in any pieces, gives whole replies. Each line is looked at once, however small the pieces are."""

    __slots__ = ("_code", "_data", "_line", "_seen", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0
        # Where the line begins that is not whole, up to where it was searched for its end, and the code of the lines
        # before it that belong to the same reply.
        self._line = 0
        self._seen = 0
        self._code = b""

    def feed(self, data: bytes) -> None:
        """Append what was read from the connection."""
        if self._start < len(self._data):
            data = self._data[self._start :] + data
        self._data = data
        self._line -= self._start
        self._seen -= self._start
        self._start = 0

    @property
    def pending(self) -> bool:
        """Whether octets are left that no reply has consumed."""
        return self._start < len(self._data)

    def next_reply(self) -> bytes | None:
        """The next whole reply, all its lines and their ends, or None if more octets are needed.

        Raises UnreadableError for anything that cannot become a reply of at most MAXIMUM_REPLY octets.
        """
        if self._seen == self._start:
            found = _WHOLE.match(self._data, self._start)
            if found is not None:
                return self._taken(found.end())
        if self._start < len(self._data):
            return self._further_lines()
        return None

    def _further_lines(self) -> bytes | None:
        """Go on where the last look ended; the reply if its last line has come."""
        while (end := self._data.find(b"\n", self._seen)) >= 0:
            line = _LINE.fullmatch(self._data, self._line, end)
            if line is None or self._code not in (b"", line.group(1)):
                raise UnreadableError("its reply is unreadable")
            if line.group(2) is None:
                return self._taken(end + 1)
            self._code = line.group(1)
            self._line = self._seen = end + 1
        self._seen = len(self._data)
        if len(self._data) - self._start > MAXIMUM_REPLY:
            raise UnreadableError("its reply is too long")
        begun = self._data[self._line : self._line + 5]
        if not _BEGINNING.fullmatch(begun) or not self._code.startswith(begun[:3] if self._code else b""):
            raise UnreadableError("its reply is unreadable")
        return None

    def _taken(self, end: int) -> bytes:
        reply = self._data[self._start : end]
        if len(reply) > MAXIMUM_REPLY:
            raise UnreadableError("its reply is too long")
        self._start = self._line = self._seen = end
        self._code = b""
        return reply


def reply_text(reply: bytes) -> str:
    """A reply for people: its lines without CR, joined by newlines, cut to REPORT_OCTETS, controls shown as ``?``."""
    text = reply[:REPORT_OCTETS].decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n")
    return text if text.isprintable() else text.translate(_CONTROL)


def reply_status(reply: bytes, default: str = "0.0") -> str:
    """The reply's enhanced status (RFC 2034), or its first digit and ``default`` if it bears none of that class."""
    found = _STATUS.match(reply)
    if found is not None and reply[0] == found.group(1)[0]:
        return found.group(1).decode()
    return f"{reply[:1].decode()}.{default}"

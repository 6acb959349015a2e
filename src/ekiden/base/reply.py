"""SMTP replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, RFC 3463)."""

from __future__ import annotations

import msgspec


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A reply: three-digit code, enhanced status (empty if the reply bears none), text lines joined by newlines."""

    code: int
    status: str
    text: str

    def encode(self) -> bytes:
        """The reply's octets on the wire, each line ended by CRLF."""
        lines = self.text.split("\n")
        status = self.status + " " if self.status else ""
        encoded = [f"{self.code}-{status}{line}\r\n" for line in lines[:-1]]
        encoded.append(f"{self.code} {status}{lines[-1]}\r\n")
        return "".join(encoded).encode("utf-8", "surrogateescape")


class Refused(Exception):
    """Something asked for is not done; carries the reply that says so to the client, the log and the bounce."""

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, status, text)

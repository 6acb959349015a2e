"""The envelope as qmail-queue reads it from descriptor 1 (qmail-queue(8), envelopes(5)).

``F`` sender NUL, then ``T`` recipient NUL for each recipient, then another NUL. What follows is not read.
"""

from __future__ import annotations

import os

from ekiden.runtime.injection.door import BAD_ENVELOPE, READ_ERROR, TOO_LONG, NotQueued

ADDRESS_OCTETS = 1002
"""Longest address taken."""

_READ = 65_536


def read_envelope(descriptor: int) -> tuple[bytes, list[bytes]]:
    """Sender and recipients; ``NotQueued`` if the envelope is cut off, out of order, or an address is too long."""
    reader = _Reader(descriptor)
    if reader.octet() != b"F":
        raise NotQueued(BAD_ENVELOPE, "the envelope does not begin with a sender (#4.3.0)")
    sender = reader.address()
    recipients: list[bytes] = []
    while (kind := reader.octet()) != b"\0":
        if kind != b"T":
            raise NotQueued(BAD_ENVELOPE, "the envelope has something that is no recipient (#4.3.0)")
        recipients.append(reader.address())
    return sender, recipients


class _Reader:
    """Takes octets off the front of what the descriptor gives, reading no more than is needed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._data = b""
        self._at = 0

    def octet(self) -> bytes:
        if self._at >= len(self._data):
            self._more()
        self._at += 1
        return self._data[self._at - 1 : self._at]

    def address(self) -> bytes:
        while (end := self._data.find(b"\0", self._at, self._at + ADDRESS_OCTETS + 1)) < 0:
            if len(self._data) - self._at > ADDRESS_OCTETS:
                raise NotQueued(TOO_LONG, "envelope address too long (#5.1.3)")
            self._more()
        address = self._data[self._at : end]
        self._at = end + 1
        return address

    def _more(self) -> None:
        try:
            piece = os.read(self._descriptor, _READ)
        except OSError as error:
            raise NotQueued(READ_ERROR, f"unable to read the envelope: {error.strerror} (#4.3.0)") from None
        if not piece:
            raise NotQueued(READ_ERROR, "the envelope is cut off (#4.3.0)")
        self._data = self._data[self._at :] + piece
        self._at = 0

"""What a mailbox is to whoever reads it: messages counted from 1 that stay as they are until ``update``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from ekiden.wire.pop3.content import Measure, octets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

BLOCK = 262_144
"""Octets read at once. A shorter first piece is the whole message."""
_BUFFER = memoryview(bytearray(BLOCK))


class MailboxError(Exception):
    """The mailbox cannot be read or changed; ``code`` is POP3's (RFC 2449 section 8.1, RFC 3206)."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def temporary(text: str) -> MailboxError:
    """It may work later."""
    return MailboxError(text, "SYS/TEMP")


def permanent(text: str) -> MailboxError:
    """Somebody has to mend it."""
    return MailboxError(text, "SYS/PERM")


class Maildrop(Protocol):
    """A mailbox that is open. Its methods raise MailboxError."""

    def __len__(self) -> int:
        """How many messages there were when it was opened."""

    def sizes(self) -> Sequence[int]:
        """Octets of each message with CRLF line ends, in order."""

    def uids(self) -> Sequence[bytes]:
        """Unique id of each message: 1 to 70 octets from ``!`` to ``~``, the same in every session."""

    def read(self, number: int) -> Iterator[bytes]:
        """The message as it is in the mailbox, in pieces of ``BLOCK`` octets, the last one shorter."""

    def update(self, deleted: AbstractSet[int]) -> None:
        """Remove these messages for good, and note that the others are no longer new."""

    def close(self) -> None:
        """Done; nothing is removed. What was learned may be kept for the next session."""


def pieces_of(descriptor: int) -> Iterator[bytes]:
    """The rest of an open file."""
    # Memory of the block's size, taken anew for each small message, would cost more than the message.
    while size := os.readv(descriptor, [_BUFFER]):
        yield bytes(_BUFFER[:size])
        if size < BLOCK:
            return


def measure(pieces: Iterable[bytes]) -> int:
    """Octets of a message with CRLF line ends."""
    first, measured = b"", None
    for piece in pieces:
        if measured is None and len(piece) < BLOCK:
            first = piece
        else:
            measured = measured or Measure()
            measured.add(piece)
    return measured.octets if measured else octets(first)

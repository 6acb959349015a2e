"""Envelope senders that are no mailbox but a sign (addresses(5)), beside the empty one (RFC 5321 section 4.5.5)."""

from __future__ import annotations

DOUBLE_BOUNCE = b"#@[]"
"""The sender of double bounces; what fails on the way from it ends without a word."""

UNANSWERED = frozenset({b"", DOUBLE_BOUNCE})
"""Senders that nothing is sent to by itself."""

PER_RECIPIENT = b"-@[]"
"""How a sender ends whose every recipient gets a sender of its own (VERP): ``list-@host-@[]``."""


def verp(sender: bytes, recipient: bytes) -> bytes:
    """``list-@host-@[]`` as this recipient gets it: ``list-user=domain@host``; any other sender as it is."""
    if not sender.endswith(PER_RECIPIENT):
        return sender
    local, at, host = sender.removesuffix(PER_RECIPIENT).rpartition(b"@")
    if not at:
        return sender
    user, at, domain = recipient.rpartition(b"@")
    return local + (user + b"=" + domain if at else recipient) + b"@" + host

"""What SMTP's reception has in common with that of QMTP and QMQP."""

from __future__ import annotations

from ekiden.base.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ekiden.policy.acceptance import ClientPolicy

HEADER_OCTETS = 65_536
"""Hops are counted in the beginning of the header up to about this size, which bounds what is kept for it."""

LOOPING = Reply(554, "5.4.6", "too many hops, this message is looping")


class Caller:
    """Who is connected. ``name`` and ``info`` are tcpserver's TCPREMOTEHOST and TCPREMOTEINFO, empty if unknown."""

    __slots__ = ("address", "info", "name", "policy")

    def __init__(self, address: str, policy: ClientPolicy, name: bytes = b"", info: bytes = b"") -> None:
        self.address = address
        self.policy = policy
        self.name = name
        self.info = info


def beginning(header: bytes, chunk: bytes) -> bytes:
    """What is kept of the header of a content that comes in parts: what was kept before, and of the next part."""
    if len(header) < HEADER_OCTETS and b"\r\n\r\n" not in header:
        return header + chunk[:HEADER_OCTETS]
    return header

"""What the supervisor tells a role, over a pair of sockets that keep packets apart (unix(7), SOCK_SEQPACKET)."""

from __future__ import annotations

import contextlib
import socket


def channel() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the role's, neither of which waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def latest(connection: socket.socket, longest: int) -> bytes:
    """The packet sent last, of at most ``longest`` octets; empty if none was sent, or nobody is there any more."""
    packet = b""
    with contextlib.suppress(OSError):
        while told := connection.recv(longest):
            packet = told
    return packet

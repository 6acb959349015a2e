"""The Received field of a message from the network, as qmail-smtpd and its kin write it (RFC 5321 section 4.4)."""

from __future__ import annotations

from ekiden.base.dates import utc_date

# What passes as it is; everything else that a client says of itself becomes a question mark.
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@%+/=:-[]_")
_SANITISE = bytes(octet if octet in _SAFE else 0x3F for octet in range(256))


def sanitised(said: bytes) -> bytes:
    """What somebody said, fit for a trace field."""
    return said.translate(_SANITISE)


def received(protocol: bytes, by: bytes, name: bytes, info: bytes, address: str, now: float) -> bytes:
    """The field in wire form. ``name`` and ``info`` are TCPREMOTEHOST and TCPREMOTEINFO, empty if unknown; ``now`` is
    in seconds of the epoch."""
    who = address.encode("ascii", "replace")
    if info:
        who = b"%b@%b" % (sanitised(info), who)
    whence = sanitised(name) or b"unknown"
    return b"Received: from %b (%b)\r\n  by %b with %b; %b\r\n" % (whence, who, by, protocol, utc_date(now))

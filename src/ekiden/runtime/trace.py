"""The Received fields that qmail-queue, qmail-smtpd and its kin put in front of a message (RFC 5321 section 4.4)."""

from __future__ import annotations

from ekiden.base.dates import utc_date

# What passes as it is; everything else that a client says of itself becomes a question mark.
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@%+/=:-[]_")
_SANITISE = bytes(octet if octet in _SAFE else 0x3F for octet in range(256))


def sanitised(said: bytes) -> bytes:
    """What somebody said, fit for a trace field."""
    return said.translate(_SANITISE)


def invoked(pid: int, how: bytes, now: float) -> bytes:
    """qmail-queue's field without its line end: the process that handed the message in, and ``how`` it was invoked,
    as in ``by uid 7`` or ``from network``. ``now`` is in seconds of the epoch.
    """
    return b"Received: (qmail %d invoked %b); %b" % (pid, how, utc_date(now))


def received(
    protocol: bytes, by: bytes, name: bytes, info: bytes, address: str, now: float, helo: bytes = b""
) -> bytes:
    """qmail-smtpd's field in wire form: whom a message is from.

    ``name`` and ``info`` are TCPREMOTEHOST and TCPREMOTEINFO, empty if unknown; ``helo`` is what the client calls
    itself, which is told if it is another name; ``now`` is in seconds of the epoch.
    """
    who = address.encode("ascii", "replace")
    if info:
        who = b"%b@%b" % (sanitised(info), who)
    whence = sanitised(name) or b"unknown"
    if helo and helo.lower() != name.lower():
        whence += b" (HELO %b)" % sanitised(helo)
    return b"Received: from %b (%b)\r\n  by %b with %b; %b\r\n" % (whence, who, by, protocol, utc_date(now))

"""Where the ucspi-tcp programs listen or connect: a host and a port as people write them."""

from __future__ import annotations

import socket

_MAIL = {
    "smtp": 25,
    "pop3": 110,
    "imap2": 143,
    "qmtp": 209,
    "imap": 143,
    "submissions": 465,
    "smtps": 465,
    "submission": 587,
    "qmqp": 628,
    "imaps": 993,
    "pop3s": 995,
}
"""Known also where /etc/services is missing or short."""

_DIGITS = 20

MAPPED = "::ffff:"


class Families:
    """Which addresses count: ``only_ipv4``, or ``prefer_ipv6`` (options -4 and -6)."""

    def __init__(self, only_ipv4: bool = False, prefer_ipv6: bool = False) -> None:
        self.only_ipv4 = only_ipv4
        self.prefer_ipv6 = prefer_ipv6

    def kinds(self) -> tuple[int, ...]:
        """The types of DNS records to ask for, in order."""
        from ekiden.wire import dns

        if self.only_ipv4:
            return (dns.A,)
        return (dns.AAAA, dns.A) if self.prefer_ipv6 else (dns.A, dns.AAAA)


def port_number(text: str) -> int | None:
    """The number of a port given by number or by its name in /etc/services; None if there is none."""
    if text.isdecimal() and text.isascii():
        return int(text) if len(text) <= _DIGITS and int(text) < 65536 else None
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        return _MAIL.get(text)


def addresses(host: str, families: Families) -> list[str]:
    """The IP addresses of a host given by address or name, in the order in which to try them.

    Raises OSError if that cannot be said now.
    """
    literal = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if is_address(literal):
        if ":" in literal and families.only_ipv4:
            return ["0.0.0.0"] if literal == "::" else []
        return [literal]
    from ekiden.runtime.ucspi.stub import qualified

    return qualified(host, families.kinds())


def is_address(text: str) -> bool:
    """Whether this is an IP address, perhaps with an interface behind ``%``."""
    try:
        socket.inet_pton(family_of(text), text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


SocketAddress = tuple[str, int] | tuple[str, int, int, int]


def socket_address(address: str, port: int, interface: str | None = None) -> SocketAddress:
    """What bind and connect take. ``interface`` is for link-local IPv6; so is ``%eth0`` behind the address.

    Raises OSError if there is no such interface.
    """
    plain, _percent, zone = address.partition("%")
    if ":" not in address:
        return plain, port
    zone = interface or zone
    return plain, port, 0, socket.if_nametoindex(zone) if zone else 0


def family_of(address: str) -> socket.AddressFamily:
    """The family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET

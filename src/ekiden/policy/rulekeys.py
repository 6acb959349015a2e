"""The keys of tcp rules: which ones a rule's address stands for, and which ones a connection asks for.

The two must fit each other. For IPv4 and host names they are those of tcprules(1), so that a compiled file serves
tcpserver as well. What tcprules does not know is written like this:

    192.0.2.64/26    the keys of 192.0.2.64 to 192.0.2.127; 10.0.0.0/14 those of 10.0. to 10.3.
    2001:db8::1      the address in the form of RFC 5952, however the rule wrote it
    2001:db8::/32    the network in that form, without its host bits; asked for from /127 down to /0

An IPv4 address inside an IPv6 one (``::ffff:192.0.2.1``) is the IPv4 address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

_IPV4_NETWORK = re.compile(rb"([0-9.]+)/([0-9]{1,3})")
_IPV6 = re.compile(rb"([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(?:/([0-9]{1,3}))?")
_MAPPED = b"\0" * 10 + b"\xff\xff"
_DIGITS = re.compile(rb"[0-9]{0,20}")


class AddressError(ValueError):
    """A rule's address that says nothing; the text says why."""


EXACT = 1000
"""In place of a network's width: the rule means just this key."""

Key = tuple[bytes, int]
"""A key, and the width in bits of the network that it came from, or EXACT."""


def rule_keys(address: bytes) -> list[Key]:
    """The keys that a rule's address stands for; none for an empty range such as ``10.3-2.``.

    Raises AddressError.
    """
    if b"@" in address or b"=" in address:
        user, at, host = address.rpartition(b"@")
        return [(user + at + (_required_ipv6_key(host) if b":" in host else host), EXACT)]
    if b":" in address:
        return _ipv6_keys(address)
    network = _IPV4_NETWORK.fullmatch(address)
    if network:
        return [(key, int(network[2])) for key in _ipv4_network(network[1], int(network[2]))]
    return [(key, EXACT) for key in _ipv4_range(address)]


def is_ipv6(address: bytes) -> bool:
    """Whether a rule's address is an IPv6 address or network, perhaps with ``user@`` before the address."""
    return _IPV6.fullmatch(address.rpartition(b"@")[2]) is not None


def probe_keys(
    address: bytes, host: bytes | None, info: bytes | None, ipv6_widths: Iterable[int] = range(127, -1, -1)
) -> Iterator[bytes]:
    """The keys that a connection asks for, the most specific first, in tcprules' order.

    ``address`` is TCPREMOTEIP, ``host`` TCPREMOTEHOST and ``info`` TCPREMOTEINFO, None if not set. ``ipv6_widths``
    are the network widths to ask for, in bits, if some are known to be absent.
    """
    packed = _pack_ipv6(address) if b":" in address else None
    if packed is not None:
        address = inet_ntop(AF_INET6, packed).encode()
    elif b":" in address:
        address = _mapped_ipv4(address) or address
    if info is not None:
        yield info + b"@" + address
        if host is not None:
            yield info + b"@=" + host
    yield address
    if host is not None:
        yield b"=" + host
    if packed is not None:
        for width in ipv6_widths:
            yield _ipv6_network(packed, width)
    dot = address.rfind(b".")
    while dot >= 0:
        yield address[: dot + 1]
        dot = address.rfind(b".", 0, dot)
    if host is not None:
        dot = host.find(b".")
        while dot >= 0:
            yield b"=" + host[dot:]
            dot = host.find(b".", dot + 1)
        yield b"="
    yield b""


def ipv6_width(key: bytes) -> int | None:
    """The width in bits of the IPv6 network that a key stands for; None for every other key."""
    match = _IPV6.fullmatch(key)
    return int(match[2]) if match and match[2] else None


def _ipv4_range(address: bytes) -> Iterator[bytes]:
    """``1.2.3.37-53`` is 1.2.3.37, 1.2.3.38 and so on; ``10.2-3.`` is 10.2. and 10.3. (tcprules(1))."""
    dash = address.find(b"-")
    if dash < 0:
        yield address
        return
    left = address.rfind(b".", 0, dash) + 1
    right = address.find(b".", dash)
    if right < 0:
        right = len(address)
    first, last = address[left:dash], address[dash + 1 : right]
    if not _DIGITS.fullmatch(first) or not _DIGITS.fullmatch(last):
        raise AddressError("a range goes from one number to another")
    for number in range(int(first or 0), min(int(last or 0), 255) + 1):
        yield b"%b%d%b" % (address[:left], number, address[right:])


def _ipv4_network(text: bytes, width: int) -> Iterator[bytes]:
    try:
        address = int.from_bytes(inet_pton(AF_INET, text.decode()), "big")
    except (OSError, ValueError):
        raise AddressError("before the slash there must be an IPv4 address of four numbers") from None
    if width > 32:
        raise AddressError("an IPv4 network has at most 32 bits")
    octets = max(1, (width + 7) // 8)
    spare = octets * 8 - width
    first = (address >> (32 - width)) << spare
    for number in range(first, first + (1 << spare)):
        key = b".".join(b"%d" % octet for octet in number.to_bytes(octets, "big"))
        yield key if octets == 4 else key + b"."


def _ipv6_keys(address: bytes) -> list[Key]:
    match = _IPV6.fullmatch(address)
    if match is None:
        raise AddressError("this is neither an IPv4 nor an IPv6 address")
    if match[2] is None:
        return [(_required_ipv6_key(address), EXACT)]
    width, ipv4 = int(match[2]), _mapped_ipv4(match[1])
    if ipv4 is not None and width >= 96:
        return [(key, width) for key in _ipv4_network(ipv4, width - 96)]
    packed = _pack_ipv6(match[1])
    if packed is None or width > 128:
        raise AddressError("an IPv6 network is an IPv6 address, a slash and a number from 0 to 128")
    key = inet_ntop(AF_INET6, packed).encode() if width == 128 else _ipv6_network(packed, width)
    return [(key, width)]


def _required_ipv6_key(text: bytes) -> bytes:
    key = _ipv6_key(text)
    if key is None:
        raise AddressError("this is not an IPv6 address")
    return key


def _ipv6_key(text: bytes) -> bytes | None:
    packed = _pack_ipv6(text)
    return _mapped_ipv4(text) if packed is None else inet_ntop(AF_INET6, packed).encode()


def _pack_ipv6(text: bytes) -> bytes | None:
    """The 16 octets of an IPv6 address, without its zone; None if it is none or an IPv4 address in disguise."""
    try:
        packed = inet_pton(AF_INET6, text.partition(b"%")[0].decode())
    except (OSError, ValueError):
        return None
    return None if packed.startswith(_MAPPED) else packed


def _mapped_ipv4(text: bytes) -> bytes | None:
    try:
        packed = inet_pton(AF_INET6, text.decode())
    except (OSError, ValueError):
        return None
    return inet_ntop(AF_INET, packed[12:]).encode() if packed.startswith(_MAPPED) else None


def _ipv6_network(packed: bytes, width: int) -> bytes:
    spare = 128 - width
    masked = int.from_bytes(packed, "big") >> spare << spare
    return b"%b/%d" % (inet_ntop(AF_INET6, masked.to_bytes(16, "big")).encode(), width)

"""Where a remote recipient goes next: the scheduler's key, and what the transport reads out of it.

A key is one short byte string, so that recipients with the same next hop compare equal however their domains were
written. Seven forms exist, and this module is the only place that knows them:

    local                 the local channel
    example.org           MX look-up of this domain, default port
    [192.0.2.1]           this address, default port, no look-up: the recipient's domain is an address literal
    relay.example.org:26  this host's addresses, no MX look-up: an artificial route
    [2001:db8::1]:25      this address: an artificial route
    lmtp:[192.0.2.1]:24   before either of these: it speaks LMTP (RFC 2033)
    lmtp:/run/lmtp        LMTP at this unix socket

Domains are lower-cased, addresses are in their canonical text form (RFC 5952 for IPv6). A colon or percent sign
in a domain is written ``%3A`` or ``%25``: an address such as ``user@host:26`` must not choose a port for itself.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

import msgspec

LOCAL = b"local"
SOCKET_PATH = 107
"""Octets that the kernel takes for a unix socket's path (unix(7))."""
SMTP_PORT = 25
LMTP_PORT = 24
_LMTP = b"lmtp:"


class RouteError(ValueError):
    """An artificial route that cannot be followed; the text says what is wrong with which value."""


class Destination(msgspec.Struct, frozen=True, gc=False):
    """A next hop. ``host`` is a domain, or if ``is_literal`` an IP address without brackets or a unix socket's path.

    ``use_mx``: the domain's MX records say which hosts to try (RFC 5321 section 5.1); otherwise ``host`` is the
    only one.
    """

    host: bytes
    port: int = SMTP_PORT
    is_literal: bool = False
    use_mx: bool = True
    lmtp: bool = False


def parse_literal(domain: bytes) -> bytes | None:
    """The canonical IP address that a domain stands for, or None if it is a name.

    Takes ``[192.0.2.1]``, ``[IPv6:2001:db8::1]`` (RFC 5321 section 4.1.3), ``[2001:db8::1]`` and, as qmail-remote
    does, a bare ``192.0.2.1``. An IPv4 address inside IPv6 (``::ffff:192.0.2.1``) becomes the IPv4 address.
    """
    bracketed = domain[:1] == b"["
    if not bracketed:
        return _canonical(domain, AF_INET)
    if domain[-1:] != b"]":
        return None
    text = domain[1:-1]
    if text[:5].lower() == b"ipv6:":
        return _canonical(text[5:], AF_INET6)
    return _canonical(text, AF_INET6 if b":" in text else AF_INET)


def _canonical(text: bytes, family: int) -> bytes | None:
    try:
        packed = inet_pton(family, text.decode("ascii"))
    except (OSError, ValueError):
        return None
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return inet_ntop(AF_INET, packed[12:]).encode()
    return inet_ntop(family, packed).encode()


def mx_destination(domain: bytes) -> bytes:
    """The key for a recipient's domain that no artificial route matches."""
    address = parse_literal(domain)
    if address is not None:
        return b"[%b]" % address
    if domain.lower() == LOCAL:
        return LOCAL + b"."
    return domain.lower().replace(b"%", b"%25").replace(b":", b"%3A")


def relay_destination(relay: bytes, default_port: int = SMTP_PORT) -> bytes:
    """The key for the right-hand side of an smtproutes line: ``host``, ``host:port``, ``[address]:port``.

    An IPv6 address stands in brackets if a port follows. ``lmtp:`` before any of these, or before the path of a unix
    socket, means LMTP, by default at port 24. Raises RouteError for an empty host, for white space and
    for a port that is not a number from 1 to 65535. Without a port the default one is meant.
    """
    if _is_lmtp(relay):
        return _LMTP + _lmtp_destination(relay[len(_LMTP) :])
    address = _canonical(relay, AF_INET6)
    if address is not None:
        return b"[%b]:%d" % (address, default_port)
    host, port = _split_port(relay, default_port)
    if not host or host.split() != [host] or b"[" in host[1:]:
        raise RouteError(f"{_show(relay)}: the relay must be host, host:port, [address] or [address]:port")
    address = parse_literal(host)
    if address is not None:
        return b"[%b]:%d" % (address, port)
    if host[:1] == b"[" or b":" in host:
        raise RouteError(f"{_show(relay)}: {_show(host)} is not an IP address in brackets")
    return b"%b:%d" % (host.lower(), port)


def _is_lmtp(relay: bytes) -> bool:
    """Whether LMTP is meant, and not a host called lmtp with a port."""
    rest = relay[len(_LMTP) :]
    return relay[: len(_LMTP)].lower() == _LMTP and rest != b"" and not rest.isdigit()


def _lmtp_destination(place: bytes) -> bytes:
    if place[:1] != b"/":
        return relay_destination(place, LMTP_PORT)
    if place.split() != [place] or len(place) > SOCKET_PATH:
        raise RouteError(f"{_show(place)}: a unix socket's path has at most {SOCKET_PATH} octets and no space")
    return place


def _split_port(relay: bytes, default_port: int) -> tuple[bytes, int]:
    host, port = relay, b""
    if relay[:1] == b"[":
        end = relay.find(b"]") + 1
        host, rest = relay[:end], relay[end:]
        if rest[:1] not in (b"", b":"):
            raise RouteError(f"{_show(relay)}: only a colon and a port may follow the bracket")
        port = rest[1:]
    elif b":" in relay:
        host, _, port = relay.partition(b":")
    if not port:
        return host, default_port
    if not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise RouteError(f"{_show(relay)}: the port must be a number from 1 to 65535")
    return host, int(port)


def _show(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def parse_destination(key: bytes, default_port: int = SMTP_PORT) -> Destination:
    """What a key of the remote channel says; keys come only from this module.

    ``default_port`` (the setting remoteport) is for keys that name none: domains and recipients' address literals.
    """
    if _is_lmtp(key):
        place = key[len(_LMTP) :]
        if place[:1] == b"/":
            return Destination(place, 0, is_literal=True, use_mx=False, lmtp=True)
        return msgspec.structs.replace(parse_destination(place), lmtp=True)
    if key[:1] == b"[":
        address, bracket, port = key[1:].partition(b"]")
        if bracket and port[:1] in (b"", b":") and parse_literal(b"[%b]" % address) is not None:
            return Destination(address, int(port[1:] or default_port), is_literal=True, use_mx=False)
    host, colon, port = key.partition(b":")
    if colon:
        return Destination(host, int(port), is_literal=False, use_mx=False)
    return Destination(host.replace(b"%3A", b":").replace(b"%25", b"%"), default_port)

"""PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): who the client behind a proxy is.

The header is read whole before anything else; the octets after it are the client's.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

LONGEST = 4096
"""Octets of a header at most; version 2 could say more, in fields that mean nothing to us."""

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1_LONGEST = 107
_V1 = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_INET, _INET6 = 1, 2
_ADDRESS_OCTETS = {_INET: 4, _INET6: 16}
_BLOCK_OCTETS = {_INET: 12, _INET6: 36}


class ProxyHeader(msgspec.Struct, frozen=True):
    """``address``: the client's IP address in text; empty if the proxy speaks for itself or does not know.

    ``length``: octets of the header.
    """

    address: str
    length: int


def parse_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of ``data``; None if it is not complete yet. Raises ValueError if it is none."""
    if data.startswith(_SIGNATURE[: len(data)]):
        return _parse_v2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _parse_v1(data)
    raise ValueError("no PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise ValueError("PROXY header too long")
        return None
    line = data[: end + 1]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader("", len(line))
    match = _V1.fullmatch(line)
    if match is None:
        raise ValueError("malformed PROXY header")
    parse = ipaddress.IPv4Address if match.group(1) == b"TCP4" else ipaddress.IPv6Address
    try:
        source = parse(match.group(2).decode())
        parse(match.group(3).decode())
    except ValueError:
        raise ValueError("malformed PROXY header") from None
    return ProxyHeader(_text(source), len(line))


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version, command = data[12] >> 4, data[12] & 15
    family, transport = data[13] >> 4, data[13] & 15
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > LONGEST:
        raise ValueError("malformed PROXY header")
    if len(data) < length:
        return None
    if command == 0 or family not in _ADDRESS_OCTETS or transport > 1:
        return ProxyHeader("", length)
    if length - 16 < _BLOCK_OCTETS[family]:
        raise ValueError("PROXY header too short")
    return ProxyHeader(_text(ipaddress.ip_address(data[16 : 16 + _ADDRESS_OCTETS[family]])), length)


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)

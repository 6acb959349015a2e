"""PROXY headers of both versions."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.proxy import ProxyHeader, parse_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + len(block).to_bytes(2, "big") + block


INET = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("192.0.2.2").packed + b"\0\x19\0\x19"
INET6 = ipaddress.ip_address("2001:db8::1").packed * 2 + b"\0\x19\0\x19"
MAPPED = ipaddress.ip_address("::ffff:192.0.2.7").packed * 2 + b"\0\x19\0\x19"

HEADERS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n", "192.0.2.1"),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 56324 25\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", ""),
    (version2(1, 0x11, INET), "192.0.2.1"),
    (version2(1, 0x11, INET + b"\x04\0\x01x"), "192.0.2.1"),
    (version2(1, 0x21, INET6), "2001:db8::1"),
    (version2(1, 0x21, MAPPED), "192.0.2.7"),
    (version2(0, 0x11, INET), ""),
    (version2(0, 0, b""), ""),
    (version2(1, 0x31, b"\0" * 216), ""),
]


@pytest.mark.parametrize(("header", "address"), HEADERS)
def test_header(header: bytes, address: str) -> None:
    expected = ProxyHeader(address, len(header))
    assert parse_header(header) == expected
    assert parse_header(header + b"EHLO x\r\n") == expected
    for end in range(len(header)):
        assert parse_header(header[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO x\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY UNKNOWN" + b"x" * 100,
        b"PROXY UNKNOWN " + b"x" * 100,
        SIGNATURE + b"\x11\x11\0\x0c" + INET,
        SIGNATURE + b"\x22\x11\0\x0c" + INET,
        version2(1, 0x11, INET[:8]),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"PROXY header"):
        parse_header(data)


@given(st.one_of(st.binary(), st.binary().map(lambda rest: SIGNATURE + rest), st.binary().map(b"PROXY ".__add__)))
def test_any_octets_are_judged(data: bytes) -> None:
    try:
        header = parse_header(data)
    except ValueError:
        return
    assert header is None or header.length <= len(data)

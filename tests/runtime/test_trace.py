"""Received fields of messages from the network."""

from __future__ import annotations

import pytest

from ekiden.runtime.trace import received


@pytest.mark.parametrize(
    ("name", "info", "address", "whence"),
    [
        (b"client.example", b"jiro", "192.0.2.7", b"client.example (jiro@192.0.2.7)"),
        (b"", b"", "2001:db8::1", b"unknown (2001:db8::1)"),
        (b"a(b)c\r\nX: y", b"<\xff>", "unknown", b"a?b?c??X:?y (???@unknown)"),
    ],
)
def test_received(name: bytes, info: bytes, address: str, whence: bytes) -> None:
    field = received(b"QMTP", b"mx.example", name, info, address, 1795406193.9)
    assert field == b"Received: from %b\r\n  by mx.example with QMTP; 23 Nov 2026 03:56:33 -0000\r\n" % whence

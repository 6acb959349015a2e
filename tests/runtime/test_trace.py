"""Received fields of messages from the network."""

from __future__ import annotations

import pytest

from ekiden.runtime.trace import invoked, received


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


@pytest.mark.parametrize(
    ("helo", "said"),
    [(b"me.example", b" (HELO me.example)"), (b"Client.Example", b""), (b"", b""), (b"a\r\nb", b" (HELO a??b)")],
)
def test_what_the_client_calls_itself_is_told_unless_it_is_its_name(helo: bytes, said: bytes) -> None:
    field = received(b"ESMTP", b"mx.example", b"client.example", b"", "192.0.2.7", 0.0, helo)
    assert field.startswith(b"Received: from client.example%b (192.0.2.7)\r\n" % said)


def test_invoked() -> None:
    assert invoked(7, b"by uid 1", 0.0) == b"Received: (qmail 7 invoked by uid 1); 1 Jan 1970 00:00:00 -0000"

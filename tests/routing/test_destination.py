"""The scheduler's keys: what a next hop is called, and that reading a key gives back what made it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.routing.destination import (
    LOCAL,
    Destination,
    RouteError,
    mx_destination,
    parse_destination,
    parse_literal,
    relay_destination,
)
from ekiden.settings.values import is_relay


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        (b"[192.0.2.1]", b"192.0.2.1"),
        (b"192.0.2.1", b"192.0.2.1"),
        (b"[IPv6:2001:DB8:0::1]", b"2001:db8::1"),
        (b"[ipv6:2001:db8::1]", b"2001:db8::1"),
        (b"[2001:db8::1]", b"2001:db8::1"),
        (b"[IPv6:::ffff:192.0.2.1]", b"192.0.2.1"),
        (b"2001:db8::1", None),
        (b"[IPv6:192.0.2.1]", None),
        (b"[192.0.2.256]", None),
        (b"[192.0.2.1", None),
        (b"[192.0.2]", None),
        (b"[fe80::1%eth0]", None),
        (b"[]", None),
        (b"[\xff]", None),
        (b"[1.2.3.4\x00]", None),
        (b"", None),
    ],
)
def test_address_literals(domain: bytes, address: bytes | None) -> None:
    assert parse_literal(domain) == address


@pytest.mark.parametrize(
    ("relay", "key"),
    [
        (b"[192.168.1.1]", b"[192.168.1.1]:25"),
        (b"192.168.1.1:26", b"[192.168.1.1]:26"),
        (b"[192.168.1.1]:2525", b"[192.168.1.1]:2525"),
        (b"Relay.Example.org", b"relay.example.org:25"),
        (b"relay:", b"relay:25"),
        (b"relay:26", b"relay:26"),
        (b"[2001:db8::1]", b"[2001:db8::1]:25"),
        (b"[IPv6:2001:db8::1]:26", b"[2001:db8::1]:26"),
        (b"2001:db8::1", b"[2001:db8::1]:25"),
        (b"lmtp:26", b"lmtp:26"),
        (b"LMTP:[127.0.0.1]", b"lmtp:[127.0.0.1]:24"),
        (b"lmtp:store:2003", b"lmtp:store:2003"),
        (b"lmtp:/run/lmtp", b"lmtp:/run/lmtp"),
    ],
)
def test_relays(relay: bytes, key: bytes) -> None:
    assert relay_destination(relay) == key
    assert not parse_destination(key).use_mx


@pytest.mark.parametrize(
    "relay",
    [
        b":26",
        b"relay:0",
        b"relay:65536",
        b"relay:x",
        b"relay:-1",
        b"relay:1:2",
        b"[1.2.3]",
        b"[relay]",
        b"[1.2.3.4]26",
        b"a b",
        b"relay: 26",
        b"[1.2.3.4",
        b"[]:25",
        b"",
        b"relay:" + b"9" * 5000,
        b"a[b]",
        b"lmtp:/a b",
        b"lmtp:/" + b"x" * 107,
        b"lmtp::24",
    ],
)
def test_relays_that_cannot_be_followed(relay: bytes) -> None:
    with pytest.raises(RouteError):
        relay_destination(relay)


def test_reading_keys() -> None:
    assert parse_destination(b"example.org") == Destination(b"example.org", 25, False, True)
    assert parse_destination(b"[192.0.2.1]") == Destination(b"192.0.2.1", 25, True, False)
    assert parse_destination(b"[2001:db8::1]:26") == Destination(b"2001:db8::1", 26, True, False)
    assert parse_destination(b"lmtp:26") == Destination(b"lmtp", 26, False, False)
    assert parse_destination(b"lmtp:store:24") == Destination(b"store", 24, False, False, True)
    assert parse_destination(b"lmtp:[192.0.2.1]:24") == Destination(b"192.0.2.1", 24, True, False, True)
    assert parse_destination(b"lmtp:/run/lmtp") == Destination(b"/run/lmtp", 0, True, False, True)
    assert parse_destination(b"relay.example:26") == Destination(b"relay.example", 26, False, False)


def test_a_remote_domain_is_never_mistaken_for_the_local_channel() -> None:
    assert mx_destination(b"LOCAL") != LOCAL


@given(st.binary(max_size=30) | st.sampled_from([b"[1.2.3.4]x26", b"[1.2.3.4]:26", b"a:26", b"%3A", b"[1.2.3.4]]"]))
def test_a_domain_chooses_neither_port_nor_relay(domain: bytes) -> None:
    hop = parse_destination(mx_destination(domain))
    assert hop.port == 25
    if hop.is_literal:
        assert hop == Destination(parse_literal(domain) or b"", 25, True, False)
    else:
        assert hop.use_mx
        assert hop.host in (domain.lower(), domain.lower() + b".")


@given(
    st.lists(st.sampled_from([b"lmtp:", b"[", b"]", b":", b"::1", b"192.0.2.1", b"IPv6:", b"a", b"/", b"7", b" "]))
)
def test_what_control_smtproutes_may_hold_can_be_followed(pieces: list[bytes]) -> None:
    relay = b"".join(pieces)
    if relay and is_relay(relay):
        relay_destination(relay)

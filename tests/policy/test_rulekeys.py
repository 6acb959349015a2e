"""A rule's keys and a connection's keys."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.policy.rulekeys import EXACT, AddressError, ipv6_width, is_ipv6, probe_keys, rule_keys

EXACT_KEYS = [
    (b"", [b""]),
    (b"18.23.0.32", [b"18.23.0.32"]),
    (b"127.", [b"127."]),
    (b"1.2.3.37-39", [b"1.2.3.37", b"1.2.3.38", b"1.2.3.39"]),
    (b"10.2-3.", [b"10.2.", b"10.3."]),
    (b"10.3-2.", []),
    (b"1-2.3-4.", [b"1.3-4.", b"2.3-4."]),
    (b"09-10.", [b"9.", b"10."]),
    (b"1.2.3.254-999", [b"1.2.3.254", b"1.2.3.255"]),
    (b"-1", [b"0", b"1"]),
    (b"joe@127.0.0.1-2", [b"joe@127.0.0.1-2"]),
    (b"=a-b.example", [b"=a-b.example"]),
    (b"joe@=.example", [b"joe@=.example"]),
    (b"2001:DB8:0::1", [b"2001:db8::1"]),
    (b"joe@2001:DB8:0::1", [b"joe@2001:db8::1"]),
    (b"::ffff:192.0.2.1", [b"192.0.2.1"]),
]

NETWORKS = [
    (b"10.1.2.3/8", [b"10."]),
    (b"10.0.0.0/14", [b"10.0.", b"10.1.", b"10.2.", b"10.3."]),
    (b"192.0.2.200/30", [b"192.0.2.200", b"192.0.2.201", b"192.0.2.202", b"192.0.2.203"]),
    (b"192.0.2.1/32", [b"192.0.2.1"]),
    (b"0.0.0.0/0", [b"%d." % number for number in range(256)]),
    (b"2001:db8:0:1::7/64", [b"2001:db8:0:1::/64"]),
    (b"2001:db8::7/128", [b"2001:db8::7"]),
    (b"::/0", [b"::/0"]),
    (b"::ffff:10.0.0.0/104", [b"10."]),
]


@pytest.mark.parametrize(("address", "keys"), EXACT_KEYS)
def test_keys_meant_exactly(address: bytes, keys: list[bytes]) -> None:
    assert rule_keys(address) == [(key, EXACT) for key in keys]


@pytest.mark.parametrize(("address", "keys"), NETWORKS)
def test_networks(address: bytes, keys: list[bytes]) -> None:
    assert [key for key, _ in rule_keys(address)] == keys
    assert all(width < EXACT for _, width in rule_keys(address))


@pytest.mark.parametrize(
    "address",
    [
        b"1-x.",
        b"1-2-3",
        b"1.2.3/24",
        b"1.2.3.4/33",
        b"1.2.3.256/24",
        b"1.2.3.4-5/24",
        b"2001:db8::g",
        b"::/129",
        b":",
        b"1:2",
        b"2001:db8::1-2",
        b"joe@1.2.3.4:",
        b"1-" + b"9" * 5000,
    ],
)
def test_addresses_that_say_nothing(address: bytes) -> None:
    with pytest.raises(AddressError):
        rule_keys(address)


def test_ipv6_addresses_are_known_by_their_form() -> None:
    assert is_ipv6(b"2001:db8::/32")
    assert is_ipv6(b"joe@::1")
    assert not is_ipv6(b"1.2.3.4")
    assert not is_ipv6(b"=a:b")
    assert ipv6_width(b"2001:db8::/32") == 32
    assert ipv6_width(b"10.0.0.0/8") is None
    assert ipv6_width(b"2001:db8::1") is None


def test_probes_run_in_the_order_of_tcprules() -> None:
    assert list(probe_keys(b"10.119.75.38", b"a.b.example", b"joe")) == [
        b"joe@10.119.75.38",
        b"joe@=a.b.example",
        b"10.119.75.38",
        b"=a.b.example",
        b"10.119.75.",
        b"10.119.",
        b"10.",
        b"=.b.example",
        b"=.example",
        b"=",
        b"",
    ]
    assert list(probe_keys(b"10.1.1.1", None, b"joe")) == [
        b"joe@10.1.1.1",
        b"10.1.1.1",
        b"10.1.1.",
        b"10.1.",
        b"10.",
        b"",
    ]


def test_probes_of_ipv6_addresses() -> None:
    probes = list(probe_keys(b"2001:DB8::1%eth0", None, None))
    assert probes[:3] == [b"2001:db8::1", b"2001:db8::/127", b"2001:db8::/126"]
    assert probes[-3:] == [b"::/1", b"::/0", b""]
    assert list(probe_keys(b"2001:db8::1", None, None, [32])) == [b"2001:db8::1", b"2001:db8::/32", b""]
    assert list(probe_keys(b"::ffff:10.1.1.1", None, None))[:2] == [b"10.1.1.1", b"10.1.1."]


@pytest.mark.parametrize("address", [b"", b"unknown", b":", b"1:2:3", b"\xff"])
def test_an_address_that_is_none_still_finds_the_default(address: bytes) -> None:
    assert list(probe_keys(address, None, None))[-1] == b""


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_ipv4_networks_hold_what_they_should(
    base: ipaddress.IPv4Address, width: int, client: ipaddress.IPv4Address
) -> None:
    keys = {key for key, _ in rule_keys(b"%s/%d" % (str(base).encode(), width))}
    found = any(key in keys for key in probe_keys(str(client).encode(), None, None) if key)
    assert found == (client in ipaddress.ip_network(f"{base}/{width}", strict=False))


@given(st.ip_addresses(v=6), st.integers(0, 128), st.integers(0, 2**128 - 1), st.integers(0, 128))
def test_ipv6_networks_hold_what_they_should(base: ipaddress.IPv6Address, width: int, noise: int, alike: int) -> None:
    client = ipaddress.IPv6Address(int(base) ^ noise >> alike)
    if client.ipv4_mapped or base.ipv4_mapped:
        return
    keys = {key for key, _ in rule_keys(b"%s/%d" % (str(base).encode(), width))}
    found = any(key in keys for key in probe_keys(str(client).encode(), None, None) if key)
    assert found == (client in ipaddress.ip_network(f"{base}/{width}", strict=False))

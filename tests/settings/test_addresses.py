"""This host's addresses, as the kernel tells them."""

from __future__ import annotations

import ipaddress

from ekiden.settings.addresses import own_addresses


def test_the_loopback_address_is_ours_and_nothing_is_link_local() -> None:
    found = own_addresses()
    assert "127.0.0.1" in found
    assert not [
        address for address in map(ipaddress.IPv6Address, filter(lambda a: ":" in a, found)) if address.is_link_local
    ]
    assert all(ipaddress.ip_address(address) for address in found)

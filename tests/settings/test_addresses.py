"""This host's addresses, as the kernel tells them."""

from __future__ import annotations

import ipaddress

from ekiden.settings.addresses import own_addresses
from ekiden.settings.first import Resolver


def test_the_loopback_address_is_ours() -> None:
    found = own_addresses()
    assert "127.0.0.1" in found
    assert all(ipaddress.ip_address(address) for address in found)


def test_no_link_local_address_is_looked_up() -> None:
    found = Resolver().addresses()
    assert {*found} <= own_addresses()
    assert not any(ipaddress.ip_address(address).is_link_local for address in found if ":" in address)

"""The steps by which a recipient address finds its table entry, each as a pure function.

The router takes them when it meets a domain for the first time, the explanation takes them with the control files
beside it, and acceptance takes the percent hack's, so that the door and the queue cannot disagree about where an
address leads. Tables have lower-case keys. Source: qmail-send(8), qmail-remote(8).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from ekiden.tables.text import dotted_suffixes


def domain_of(address: bytes) -> bytes:
    """What follows the last @; the whole of an address without one."""
    return address[address.rfind(b"@") + 1 :]


def percent_expansions(address: bytes, percenthack: Container[bytes]) -> Iterator[bytes]:
    """The addresses that ``user%fqdn@domain`` becomes, one after the other; the last one counts.

    Nothing comes if the hack does not apply. The address has an @. Once a percent sign has become the @, the part
    before it is searched for the next one, as ``user`` may hold percent signs.
    """
    at = address.rfind(b"@")
    while address[at + 1 :].lower() in percenthack:
        percent = address.rfind(b"%", 0, at)
        if percent < 0:
            return
        address = address[:percent] + b"@" + address[percent + 1 : at]
        at = percent
        yield address


def wildcard_keys(domain: bytes) -> Iterator[bytes]:
    """The domain, then ``.suffix`` at each dot from the longest on, then the empty default. Lower case in and out."""
    yield domain
    yield from dotted_suffixes(domain)
    yield b""


def virtual_entry(address: bytes, virtualdomains: Mapping[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """The entry of virtualdomains for an address with an @: the key that matched and its prefix.

    ``user@domain`` comes before the domain and its wildcards. An empty prefix is an exception: not virtual.
    """
    address = address.lower()
    if address in virtualdomains:
        return address, virtualdomains[address]
    return route_entry(domain_of(address), virtualdomains)


def route_entry(domain: bytes, table: Mapping[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """The most specific entry for a lower-case domain: the key that matched and its value."""
    for key in wildcard_keys(domain):
        if key in table:
            return key, table[key]
    return None

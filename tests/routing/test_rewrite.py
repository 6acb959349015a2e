"""The single steps of rewriting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.routing.rewrite import (
    domain_of,
    percent_expansions,
    route_entry,
    virtual_entry,
    wildcard_keys,
)


@pytest.mark.parametrize(
    ("address", "expanded"),
    [
        (b"user%far.example@hack", [b"user@far.example"]),
        (b"a%b%hack@HACK", [b"a%b@hack", b"a@b"]),
        (b"a%b%c@hack", [b"a%b@c"]),
        (b"user@hack", []),
        (b"user%far.example@other", []),
        (b"x%y@z@hack", [b"x@y@z"]),
        (b"%@hack", [b"@"]),
    ],
)
def test_percent_hack(address: bytes, expanded: list[bytes]) -> None:
    assert list(percent_expansions(address, {b"hack"})) == expanded


@given(st.binary(max_size=40))
def test_percent_hack_ends_and_shortens(tail: bytes) -> None:
    address = b"a" + tail + b"@hack"
    lengths = [len(each) for each in percent_expansions(address, {b"hack", b"", b"a"})]
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) <= address.count(b"%")


def test_wildcards_run_from_the_most_specific_on() -> None:
    assert list(wildcard_keys(b"a.b.c")) == [b"a.b.c", b".b.c", b".c", b""]
    assert list(wildcard_keys(b".b.c.")) == [b".b.c.", b".c.", b".", b""]
    assert list(wildcard_keys(b"")) == [b"", b""]


def test_entries() -> None:
    table = {b"joe@b.c": b"one", b"b.c": b"two", b".c": b"three", b"": b"four", b"x.c": b""}
    assert virtual_entry(b"Joe@B.C", table) == (b"joe@b.c", b"one")
    assert virtual_entry(b"jim@b.c", table) == (b"b.c", b"two")
    assert virtual_entry(b"jim@q.c", table) == (b".c", b"three")
    assert virtual_entry(b"jim@q", table) == (b"", b"four")
    assert virtual_entry(b"jim@x.c", table) == (b"x.c", b"")
    assert route_entry(b"q", {b"b": b"x"}) is None


def test_the_domain_follows_the_last_at() -> None:
    assert domain_of(b'a@b"@c') == b"c"

"""The router against the rules of qmail-send(8) and qmail-remote(8)."""

from __future__ import annotations

import pytest

from ekiden.routing.destination import RouteError, parse_destination
from ekiden.routing.route import KNOWN_DOMAINS, Decision, Router
from ekiden.settings.schema import Settings


def make_router(**settings: object) -> Router:
    return Router(Settings(**{"me": b"me.example", "locals": frozenset({b"me.example"}), **settings}))


SITE = make_router(
    envnoathost=b"me.example",
    locals=frozenset({b"Me.example", b"localhost"}),
    percenthack=frozenset({b"hack.example", b"me.example"}),
    virtualdomains={
        b"virtual.example": b"joe-foo",
        b"Jim@mixed.example": b"jim",
        b".fax": b"uucp-fax",
        b"no.fax": b"",
        b"localhost": b"never",
    },
    smtproutes={
        b"Inside.example": b"[192.168.1.1]",
        b".Inside.example": b"gate.example:26",
        b"mx.inside.example": b"",
    },
)


@pytest.mark.parametrize(
    ("recipient", "channel", "rewritten", "destination"),
    [
        (b"jiro@me.example", "local", b"jiro@me.example", b"local"),
        (b"Jiro@ME.example", "local", b"Jiro@ME.example", b"local"),
        (b"jiro", "local", b"jiro@me.example", b"local"),
        (b"", "local", b"@me.example", b"local"),
        (b"a@localhost", "local", b"a@localhost", b"local"),
        (b"info@Virtual.Example", "local", b"joe-foo-info@Virtual.Example", b"local"),
        (b"jim@mixed.example", "local", b"jim-jim@mixed.example", b"local"),
        (b"joe@mixed.example", "remote", b"joe@mixed.example", b"mixed.example"),
        (b"1@a.b.fax", "local", b"uucp-fax-1@a.b.fax", b"local"),
        (b"1@fax", "remote", b"1@fax", b"fax"),
        (b"1@no.fax", "remote", b"1@no.fax", b"no.fax"),
        (b"a@inside.example", "remote", b"a@inside.example", b"[192.168.1.1]:25"),
        (b"a@x.y.inside.example", "remote", b"a@x.y.inside.example", b"gate.example:26"),
        (b"a@MX.inside.example", "remote", b"a@MX.inside.example", b"mx.inside.example"),
        (b"a@Far.Example", "remote", b"a@Far.Example", b"far.example"),
        (b"a%far.example@hack.example", "remote", b"a@far.example", b"far.example"),
        (b"a%virtual.example@hack.example", "local", b"joe-foo-a@virtual.example", b"local"),
        (b"a%b%hack.example@me.example", "remote", b"a@b", b"b"),
        (b"a%b@far.example", "remote", b"a%b@far.example", b"far.example"),
        (b"a@b@me.example", "local", b"a@b@me.example", b"local"),
        (b"a@[192.0.2.1]", "remote", b"a@[192.0.2.1]", b"[192.0.2.1]"),
        (b"a@[IPv6:2001:DB8::1]", "remote", b"a@[IPv6:2001:DB8::1]", b"[2001:db8::1]"),
        (b"a@", "remote", b"a@", b""),
    ],
)
def test_decisions(recipient: bytes, channel: str, rewritten: bytes, destination: bytes) -> None:
    expected = Decision(channel, rewritten, destination)
    assert SITE.route(recipient) == expected
    assert SITE.route(recipient) == expected, "asked a second time"


def test_an_address_without_domain_goes_through_the_percent_hack() -> None:
    assert SITE.route(b"a%far.example").recipient == b"a@far.example"


def test_default_entries_take_everything_that_is_not_local() -> None:
    router = make_router(virtualdomains={b"": b"alias-catchall"})
    assert router.route(b"a@b").recipient == b"alias-catchall-a@b"
    assert router.route(b"a@me.example").recipient == b"a@me.example"
    router = make_router(smtproutes={b"": b"[192.10.10.2]", b"direct.example": b""})
    assert router.route(b"a@[192.0.2.1]").destination == b"[192.10.10.2]:25"
    assert router.route(b"a@").destination == b"[192.10.10.2]:25"
    assert router.route(b"a@direct.example").destination == b"direct.example"


def test_the_default_port_is_a_setting() -> None:
    router = make_router(remoteport=2525, smtproutes={b"a": b"relay", b"b": b"relay:26"})
    assert router.route(b"x@a").destination == b"relay:2525"
    assert router.route(b"x@b").destination == b"relay:26"
    assert parse_destination(router.route(b"x@c").destination, 2525).port == 2525
    assert parse_destination(router.route(b"x@[192.0.2.1]").destination, 2525).port == 2525


def test_without_locals_even_our_own_name_is_remote() -> None:
    assert make_router(locals=frozenset()).route(b"a@me.example").channel == "remote"


def test_a_wrong_relay_names_the_line() -> None:
    with pytest.raises(RouteError, match=r"^smtproutes: far\.example:relay:x: the port must be"):
        make_router(smtproutes={b"far.example": b"relay:x"})


def test_memory_does_not_grow_with_the_number_of_domains() -> None:
    router = make_router()
    for number in range(KNOWN_DOMAINS + 10):
        router.route(b"a@%d.example" % number)
    assert len(router._plans) <= KNOWN_DOMAINS
    assert router.route(b"a@0.example").destination == b"0.example"

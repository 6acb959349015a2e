"""Who may send what to whom; the relay tricks that an open-relay tester tries."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.reply import Refused, Reply
from ekiden.policy.acceptance import Acceptance, ClientPolicy
from ekiden.policy.tcprules import Verdict
from ekiden.routing.route import Router
from ekiden.settings.schema import Settings
from ekiden.tables.cdb import replace_cdb

WORLD = ClientPolicy()
INSIDE = ClientPolicy(relay=True)

NOT_LISTED = Reply(553, "5.7.1", "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")
ROUTED = Reply(553, "5.7.1", "sorry, I don't relay by %, ! or @ within an address (#5.7.1)")
BAD_SENDER = Reply(553, "5.7.1", "sorry, your envelope sender is in my badmailfrom list (#5.7.1)")
BAD_RECIPIENT = Reply(553, "5.7.1", "sorry, that recipient is in my badrcptto list (#5.7.1)")
NO_TABLE = Reply(451, "4.3.0", "unable to read controls (#4.3.0)")


def make_acceptance(**settings: object) -> Acceptance:
    return Acceptance(make_settings(**settings), lambda: ["202.241.128.3", "2001:db8::3"])


def make_settings(**settings: object) -> Settings:
    site = {
        "me": b"nix.co.jj",
        "locals": frozenset({b"localhost", b"hosta.nix.co.jj"}),
        "rcpthosts": frozenset({b"nix.co.jj", b".sub.nix.co.jj"}),
        "smtproutes": {b"nix.co.jj": b"[192.168.1.1]"},
    }
    return Settings(**{**site, **settings})


def refusal(acceptance: Acceptance, address: bytes, client: ClientPolicy = WORLD) -> Reply | None:
    try:
        acceptance.recipient(address, client)
    except Refused as refused:
        return refused.reply
    return None


@pytest.mark.parametrize(
    "address",
    [
        b"jiro@nix.co.jj",
        b"jiro@NIX.co.jj",
        b"j@a.b.sub.nix.co.jj",
        b"jiro",
        b"",
        b"a=b+c-d/e@nix.co.jj",
        b"100%@nix.co.jj",
    ],
)
def test_our_own_addresses_are_taken(address: bytes) -> None:
    acceptance = make_acceptance()
    assert acceptance.recipient(address, WORLD) == address
    assert acceptance.recipient(address, WORLD) == address, "asked a second time"


TRICKS = [
    (b"victim@far.example", NOT_LISTED),
    (b"victim@xnix.co.jj", NOT_LISTED),
    (b"victim@sub.nix.co.jj", NOT_LISTED),
    (b"victim@nix.co.jj.", NOT_LISTED),
    (b"victim@nix.co.jj.far.example", NOT_LISTED),
    (b"victim@", NOT_LISTED),
    (b"victim@[192.0.2.1]", NOT_LISTED),
    (b"victim@192.0.2.1", NOT_LISTED),
    (b"victim@[IPv6:2001:db8::1]", NOT_LISTED),
    (b"victim@nix.co.jj@far.example", NOT_LISTED),
    (b"far.example!victim@[192.0.2.1]", NOT_LISTED),
    (b"victim%far.example@nix.co.jj", ROUTED),
    (b"victim%far.example@[202.241.128.3]", ROUTED),
    (b"victim%far.example@a.sub.nix.co.jj", ROUTED),
    (b"victim%far.example%nix.co.jj@nix.co.jj", ROUTED),
    (b"victim%[192.0.2.1]@nix.co.jj", ROUTED),
    (b"victim%far.example", ROUTED),
    (b"victim@far.example@nix.co.jj", ROUTED),
    (b"victim@far.example@[202.241.128.3]", ROUTED),
    (b'"victim@far.example"@nix.co.jj', ROUTED),
    (b"@far.example:victim@nix.co.jj", ROUTED),
    (b"far.example!victim@nix.co.jj", ROUTED),
    (b"nix.co.jj!far.example!victim@nix.co.jj", ROUTED),
    (b"far.example!victim", ROUTED),
    (b"far.example!victim@[202.241.128.3]", ROUTED),
    (b"victim@far.example!a.sub.nix.co.jj", ROUTED),
    (b"victim@far.example%a.sub.nix.co.jj", ROUTED),
    (b"victim@far.example,a.sub.nix.co.jj", ROUTED),
    (b"victim@far.example\n.sub.nix.co.jj", ROUTED),
]


@pytest.mark.parametrize(("address", "reply"), TRICKS)
def test_relay_tricks_are_refused(address: bytes, reply: Reply) -> None:
    acceptance = make_acceptance()
    assert refusal(acceptance, address) == reply
    assert acceptance.recipient(b"jiro@nix.co.jj", WORLD)
    assert refusal(acceptance, address) == reply, "after the domain has become known"


@pytest.mark.parametrize("address", [address for address, _ in TRICKS])
def test_the_percent_hack_opens_no_way(address: bytes) -> None:
    hosts = frozenset({b"nix.co.jj", b"a.sub.nix.co.jj"})
    assert refusal(make_acceptance(percenthack=hosts), address) is not None


def test_the_percent_hack_is_followed() -> None:
    acceptance = make_acceptance(percenthack=frozenset({b"nix.co.jj", b"far.example"}))
    assert acceptance.recipient(b"jiro%a.sub.nix.co.jj@nix.co.jj", WORLD) == b"jiro%a.sub.nix.co.jj@nix.co.jj"
    assert acceptance.recipient(b"jiro%nix.co.jj%nix.co.jj@nix.co.jj", WORLD)
    assert refusal(acceptance, b"victim%far.example%nix.co.jj@nix.co.jj") == NOT_LISTED
    assert refusal(acceptance, b"jiro%nix.co.jj@far.example") == NOT_LISTED, "though it would come back"
    assert refusal(acceptance, b"jiro%other@a.sub.nix.co.jj%nix.co.jj@nix.co.jj") == ROUTED


@given(st.text('ab.@%![]1:"\\ ,', max_size=40), st.sampled_from([b"@nix.co.jj", b"@a.sub.nix.co.jj", b"@hack", b""]))
def test_what_is_taken_is_routed_to_a_host_of_ours(start: str, end: bytes) -> None:
    settings = make_settings(
        rcpthosts=frozenset({b"nix.co.jj", b".sub.nix.co.jj", b"hack", b"b"}),
        percenthack=frozenset({b"hack", b"b", b"nix.co.jj"}),
    )
    address = start.encode() + end
    acceptance = Acceptance(settings, list)
    if refusal(acceptance, address) is None:
        final = Router(settings).route(acceptance.recipient(address, WORLD)).recipient
        local, _, domain = final.rpartition(b"@")
        assert domain in (settings.rcpthosts or ()) or domain.endswith(b".sub.nix.co.jj")
        assert b"@" not in local
        assert b"!" not in local[:-1]


def test_a_client_with_relayclient_may_send_anywhere() -> None:
    acceptance = make_acceptance()
    for address, _ in TRICKS[:8]:
        assert acceptance.recipient(address, INSIDE) == address
    assert acceptance.recipient(b"a%b@nix.co.jj", INSIDE) == b"a%b@nix.co.jj"
    assert refusal(acceptance, b"a%b@nix.co.jj") == ROUTED, "what one client may do, the next may not"
    fix = ClientPolicy(relay=True, suffix=b"@fix.me")
    assert acceptance.recipient(b"jiro@far.example", fix) == b"jiro@far.example@fix.me"
    assert acceptance.recipient(b"jiro@nix.co.jj", WORLD)
    assert acceptance.recipient(b"jiro@nix.co.jj", fix) == b"jiro@nix.co.jj@fix.me"


def test_without_rcpthosts_everything_is_taken() -> None:
    acceptance = make_acceptance(rcpthosts=None, morercpthosts=frozenset({b"x"}))
    assert acceptance.recipient(b"victim%other@far.example", WORLD) == b"victim%other@far.example"


def test_an_empty_rcpthosts_takes_nothing() -> None:
    assert refusal(make_acceptance(rcpthosts=frozenset()), b"jiro@nix.co.jj") == NOT_LISTED


def test_own_address_literals_become_localiphost() -> None:
    acceptance = make_acceptance()
    assert acceptance.recipient(b"jiro@[202.241.128.3]", WORLD) == b"jiro@nix.co.jj"
    assert acceptance.recipient(b"jiro@[127.0.0.1]", WORLD) == b"jiro@nix.co.jj"
    assert acceptance.recipient(b"jiro@[0.0.0.0]", INSIDE) == b"jiro@nix.co.jj"
    assert acceptance.recipient(b"jiro@[IPv6:2001:DB8::3]", INSIDE) == b"jiro@nix.co.jj"
    assert acceptance.recipient(b"jiro@[192.0.2.1]", INSIDE) == b"jiro@[192.0.2.1]"
    assert acceptance.recipient(b"jiro@202.241.128.3", INSIDE) == b"jiro@202.241.128.3", "brackets are required"
    assert acceptance.recipient(b"a@[x@[202.241.128.3]", INSIDE) == b"a@[x@nix.co.jj"
    assert acceptance.sender(b"jiro@[202.241.128.3]") == b"jiro@nix.co.jj"
    acceptance = make_acceptance(localiphost=b"other.example")
    assert refusal(acceptance, b"jiro@[202.241.128.3]") == NOT_LISTED


@pytest.mark.parametrize(
    ("sender", "refused"),
    [
        (b"spam@far.example", True),
        (b"Spam@FAR.example", True),
        (b"anyone@bad.example", True),
        (b"anyone@x.bad.example", False),
        (b"x@far.example", False),
        (b"anyone@[127.0.0.1]", True),
        (b"odd@bad.example@good", False),
        (b"bad.example", False),
        (b"nodomain", True),
        (b"", False),
    ],
)
def test_badmailfrom(sender: bytes, refused: bool) -> None:
    acceptance = make_acceptance(
        badmailfrom=frozenset({b"spam@far.example", b"@bad.example", b"@nix.co.jj", b"nodomain"})
    )
    if not refused:
        assert acceptance.sender(sender) == sender
        return
    with pytest.raises(Refused) as caught:
        acceptance.sender(sender)
    assert caught.value.reply == BAD_SENDER


@pytest.mark.parametrize(
    ("sender", "login", "taken"),
    [
        (b"jiro@nix.co.jj", b"jiro", True),
        (b"JIRO@Nix.co.jj", b"jiro", True),
        (b"haruo@nix.co.jj", b"haruo@nix.co.jj", True),
        (b"haruo@nix.co.jj", b"jiro", False),
        (b"sales@nix.co.jj", b"jiro", True),
        (b"sales@nix.co.jj", b"sales", False),
        (b"nobody@nix.co.jj", b"nobody", False),
        (b"any@lists.example", b"admin", True),
        (b"any@lists.example", b"jiro", False),
        (b"jiro@elsewhere.example", b"jiro", False),
        (b"jiro", b"jiro", False),
        (b"@nix.co.jj", b"", True),
        (b"", b"jiro", True),
        (b"haruo@nix.co.jj", b"", True),
    ],
)
def test_senderlogins(sender: bytes, login: bytes, taken: bool) -> None:
    entries = {b"@nix.co.jj": b"%u", b"sales@nix.co.jj": b"jiro haruo", b"@lists.example": b"admin"}
    acceptance = make_acceptance(senderlogins={**entries, b"nobody@nix.co.jj": b""})
    if taken:
        assert acceptance.sender(sender, login) == sender
    else:
        with pytest.raises(Refused) as raised:
            acceptance.sender(sender, login)
        text = f"sorry, {login.decode()} may not send as that address (#5.7.1)"
        assert raised.value.reply == Reply(553, "5.7.1", text)


def test_without_senderlogins_who_has_logged_in_may_send_as_anybody() -> None:
    assert make_acceptance().sender(b"root@elsewhere.example", b"jiro") == b"root@elsewhere.example"


@pytest.mark.parametrize("client", [WORLD, INSIDE])
def test_badrcptto(client: ClientPolicy) -> None:
    acceptance = make_acceptance(
        badrcptto=frozenset({b"gone@nix.co.jj", b"@closed.sub.nix.co.jj"}),
        percenthack=frozenset({b"a.sub.nix.co.jj"}),
    )
    assert acceptance.recipient(b"jiro@nix.co.jj", client)
    for address in (
        b"Gone@nix.co.jj",
        b"x@Closed.sub.nix.co.jj",
        b"gone",
        b"gone@[127.0.0.1]",
        b"gone%nix.co.jj@a.sub.nix.co.jj",
    ):
        assert refusal(acceptance, address, client) == BAD_RECIPIENT
    assert acceptance.recipient(b"x@y.closed.sub.nix.co.jj", client)


def test_the_rules_environment_makes_the_policy() -> None:
    acceptance = make_acceptance(databytes=1000)
    assert acceptance.client("192.0.2.1", Verdict()) == ClientPolicy(False, b"", 1000)
    assert acceptance.client("192.0.2.1", Verdict(True, {b"RELAYCLIENT": b""})) == ClientPolicy(True, b"", 1000)
    assert acceptance.client("192.0.2.1", Verdict(True, {b"RELAYCLIENT": b"@fix.me"})).suffix == b"@fix.me"
    for text, octets in ((b"5", 5), (b"12k", 12), (b"", 0), (b"none", 0), (b"0", 0)):
        assert acceptance.client("192.0.2.1", Verdict(True, {b"DATABYTES": text})).databytes == octets


def test_morercpthosts(tmp_path: Path) -> None:
    cdb = tmp_path / "morercpthosts.cdb"
    replace_cdb(cdb, tmp_path / "tmp", [(b"more.example", b""), (b".wide.example", b"")])
    acceptance = make_acceptance(morercpthosts_cdb=str(cdb))
    assert acceptance.recipient(b"a@More.example", WORLD)
    assert acceptance.recipient(b"a@x.wide.example", WORLD)
    assert refusal(acceptance, b"a@wide.example") == NOT_LISTED
    assert refusal(acceptance, b"a%b@more.example") == ROUTED
    replace_cdb(cdb, tmp_path / "tmp", [(b"new.example", b"")])
    assert refusal(acceptance, b"a@more.example") == NOT_LISTED
    assert acceptance.recipient(b"a@new.example", WORLD)
    cdb.write_bytes(b"")
    assert refusal(acceptance, b"a@new.example") == NO_TABLE
    cdb.unlink()
    assert refusal(acceptance, b"a@new.example") == NO_TABLE
    assert acceptance.recipient(b"jiro@nix.co.jj", WORLD), "rcpthosts goes before"


def test_morercpthosts_before_it_is_compiled() -> None:
    assert make_acceptance(morercpthosts=frozenset({b"more.example"})).recipient(b"a@more.example", WORLD)


def test_memory_does_not_grow_with_the_number_of_domains() -> None:
    acceptance = make_acceptance()
    for number in range(5000):
        assert acceptance.recipient(b"a@%d.sub.nix.co.jj" % number, WORLD)
    assert len(acceptance._plain) <= 4096

"""The resolvers and a DNS server that lies, stalls or answers nonsense: mail waits, and nothing grows without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import uvloop
from tests.peers.liar import LIES, Liar

from ekiden.base.outcome import Outcome, Verdict
from ekiden.routing.destination import parse_destination
from ekiden.routing.mx import HOSTS, Host, Question
from ekiden.runtime import resolver_answer
from ekiden.runtime.classic.resolver_blocking import hosts_for
from ekiden.runtime.resolver import Resolver
from ekiden.settings.schema import Settings

LIFETIME = 3
BY_TCP = ["tcpsilent", "tcpreset", "tcpgarbage", "tcpdrip", "tcpendless", "tcpagain"]
PLAIN_LIES = sorted(lie.decode() for lie in LIES.keys() - {b"good", b"many", b"crowd", b"refers"})


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    monkeypatch.setattr(resolver_answer, "PER_SERVER", LIFETIME / 2)
    server = Liar()
    yield server
    server.stop()


def settings(liar: Liar) -> Settings:
    return Settings(me=b"here.example", resolvers=(f"127.0.0.1:{liar.port}",), timeoutdns=LIFETIME)


async def all_at_once(resolver: Resolver, lies: list[str]) -> dict[str, list[Host] | Outcome]:
    found = await asyncio.gather(*(resolver.hosts(f"{lie}.example".encode()) for lie in lies))
    return dict(zip(lies, found, strict=True))


def test_mail_for_whoever_lies_waits(liar: Liar) -> None:
    start = time.monotonic()
    found = uvloop.run(all_at_once(Resolver(settings(liar)), [*PLAIN_LIES, *BY_TCP]))
    verdicts = {lie: hosts if isinstance(hosts, list) else hosts.verdict for lie, hosts in found.items()}
    assert verdicts == dict.fromkeys(found, Verdict.DEFERRED)
    # Name, and address after it, each in at most so many steps of a chain.
    assert time.monotonic() - start < 2 * resolver_answer.CHAIN * LIFETIME
    assert max(liar.asked.values()) < 100


@pytest.mark.parametrize("lie", ["garbage", "self", "loop", "swing", "chain", "spiral", "claims", "tcpreset"])
def test_the_blocking_resolver_says_the_same(liar: Liar, lie: str) -> None:
    found = hosts_for(parse_destination(f"{lie}.example".encode()), settings(liar))
    assert isinstance(found, Outcome)
    assert found.verdict == Verdict.DEFERRED


def test_a_domain_whose_exchanger_has_no_address_fails(liar: Liar) -> None:
    found = uvloop.run(all_at_once(Resolver(settings(liar)), ["refers"]))["refers"]
    assert isinstance(found, Outcome)
    assert (found.verdict, found.status) == (Verdict.FAILED, "5.4.4")


def test_an_honest_answer_is_not_held_up_by_lies(liar: Liar) -> None:
    async def scenario() -> None:
        resolver = Resolver(settings(liar))
        lies = asyncio.ensure_future(all_at_once(resolver, [*PLAIN_LIES, *BY_TCP]))
        await asyncio.sleep(0.1)
        (host,) = await resolver.hosts(b"good.example")
        assert not lies.done()
        assert host.address == "198.18.0.1"
        await lies

    uvloop.run(scenario())


@pytest.mark.parametrize(("lie", "kind", "field"), [("crowd", "A", "addresses"), ("many", "MX", "exchangers")])
def test_of_thousands_of_records_a_few_are_kept(liar: Liar, lie: str, kind: str, field: str) -> None:
    answer = uvloop.run(Resolver(settings(liar)).ask(Question(f"{lie}.example".encode(), kind)))
    assert len(getattr(answer, field)) == resolver_answer.RECORDS


def test_of_thousands_of_exchangers_the_best_are_looked_up(liar: Liar) -> None:
    uvloop.run(Resolver(settings(liar)).hosts(b"many.example"))
    assert liar.asked[b"000"] and liar.asked[b"%03x" % (HOSTS - 1)]
    assert not liar.asked[b"%03x" % HOSTS]

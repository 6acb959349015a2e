"""The resolvers against a real DNS server (dnsmasq), and without any."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from tests.peers import nameserver

from ekiden.base.outcome import Outcome, Verdict
from ekiden.routing.destination import parse_destination
from ekiden.routing.mx import Answered, Host, Question
from ekiden.runtime import resolver_answer
from ekiden.runtime.classic.resolver_blocking import hosts_for
from ekiden.runtime.resolver import Resolver
from ekiden.settings.schema import Settings

ZONE = [
    nameserver.mx("x.example", 20, "b.example"),
    nameserver.mx("x.example", 10, "a.example"),
    nameserver.host("a.example", "203.0.113.1", "2001:db8::1"),
    nameserver.host("b.example", "203.0.113.2"),
    nameserver.host("plain.example", "203.0.113.3"),
    nameserver.alias("alias.example", "plain.example"),
    nameserver.mx("loop.example", 10, "me.example"),
    nameserver.host("me.example", "127.0.0.1"),
    nameserver.broken("refused.test"),
    "local-ttl=100",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A DNS server's address and port."""
    dnsmasq = nameserver.NameServer(tmp_path_factory.mktemp("dnsmasq"), ZONE)
    dnsmasq.start()
    yield f"127.0.0.1:{dnsmasq.port}"
    dnsmasq.stop()


def settings(*resolvers: str, **more: Any) -> Settings:
    return Settings(me=b"here.example", resolvers=resolvers, **more)


def ask(asked: Settings, key: bytes, blocking: bool) -> list[Host] | Outcome:
    if blocking:
        return hosts_for(parse_destination(key, asked.remoteport), asked)

    async def scenario() -> list[Host] | Outcome:
        return await Resolver(asked).hosts(key)

    return uvloop.run(scenario())


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"x.example", ["2001:db8::1", "203.0.113.1", "203.0.113.2"]),
        (b"plain.example", ["203.0.113.3"]),
        (b"alias.example", ["203.0.113.3"]),
        (b"b.example:26", ["203.0.113.2"]),
    ],
)
def test_found(server: str, key: bytes, expected: list[str], blocking: bool) -> None:
    found = ask(settings(server), key, blocking)
    assert not isinstance(found, Outcome), found
    assert [host.address for host in found] == expected


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(
    ("key", "status"),
    [
        (b"gone.example", "5.1.2"),
        (b"gone.example:25", "4.3.5"),
        (b"loop.example", "5.4.6"),
        (b"x" * 64 + b".example", "5.1.2"),
        (b"a..example", "5.1.2"),
        (b"\xff.example", "5.1.2"),
        (b"refused.test", "4.4.3"),
    ],
)
def test_not_found(server: str, key: bytes, status: str, blocking: bool) -> None:
    found = ask(settings(server, timeoutdns=3), key, blocking)
    assert isinstance(found, Outcome)
    assert found.status == status
    assert found.verdict == (Verdict.DEFERRED if status[0] == "4" else Verdict.FAILED)


@pytest.mark.parametrize("blocking", [False, True])
def test_without_dns_literals_go_on_and_names_wait(blocking: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        dead = settings(f"127.0.0.1:{deaf.getsockname()[1]}", timeoutdns=1)
        assert ask(dead, b"[203.0.113.1]:25", blocking) == [Host("203.0.113.1", 25)]
        found = ask(dead, b"x.example", blocking)
    assert isinstance(found, Outcome)
    assert (found.verdict, found.status) == (Verdict.DEFERRED, "4.4.3")


def test_answers_are_remembered_for_their_ttl_and_asked_for_once(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        resolver = Resolver(settings(server))
        sent = 0
        query = resolver._query

        async def counted(question: Question) -> resolver_answer.Found:
            nonlocal sent
            sent += 1
            return await query(question)

        monkeypatch.setattr(resolver, "_query", counted)
        question = Question(b"a.example", "A")
        answers = await asyncio.gather(*(resolver.ask(question) for _ in range(50)))
        assert {answer.result for answer in answers} == {Answered.FOUND}
        await resolver.ask(question)
        assert sent == 1
        for until, _ in resolver._known.values():
            assert 0 < until - asyncio.get_running_loop().time() <= 100
        resolver._known[question] = (0.0, answers[0])
        await resolver.ask(question)
        assert sent == 2

    uvloop.run(scenario())


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from ekiden.routing.mx import Answer
    from ekiden.runtime import resolver as module

    monkeypatch.setattr(module, "CAPACITY", 10)
    resolver = Resolver(settings())
    for number in range(100):
        resolver._remember(Question(b"%d" % number, "A"), Answer(Answered.NOTHING), 1e9)
    assert len(resolver._known) == 10


def test_a_port_that_we_do_not_listen_at_cannot_be_ours() -> None:
    assert resolver_answer.surroundings(settings()).is_own_address("127.0.0.1")
    assert resolver_answer.surroundings(settings()).is_own_address("0.0.0.0")
    assert resolver_answer.surroundings(settings()).is_own_address("::ffff:127.0.0.1")
    assert not resolver_answer.surroundings(settings()).is_own_address("203.0.113.1")
    assert not resolver_answer.surroundings(settings(remoteport=2525)).is_own_address("127.0.0.1")

"""The remote role and destinations of several addresses, the first of which is at fault at every stage.

A server that ends the session before it has decided about the message leads to the next address; its word about
sender, recipient or content counts, and so does its silence from then on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.peers import nameserver
from tests.peers.nameserver import NameServer
from tests.peers.processes import free_port
from tests.roles.test_remote import CONTENT, Handler, Peer, Server, good, play, role, start

from ekiden.base.outcome import Outcome, Verdict
from ekiden.delivery.remote import Job, prepare
from ekiden.wire.smtp.client_command import Extensions

ZONE = [
    nameserver.host("first.example", "127.0.0.2"),
    nameserver.host("second.example", "127.0.0.3"),
    nameserver.mx("nix.example", 10, "first.example"),
    nameserver.mx("nix.example", 20, "second.example"),
]
STAGES = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"]
OPEN = {"greeting": "220-mx\r\n220 hello", "EHLO": "250-mx\r\n250 SIZE", "DATA": "354 go"}
FAULTS = ["", "silence", "421 busy", "450 later", "550 no", "what?", "199 x", "250-half"]
PATIENCE = dict.fromkeys(
    ["timeoutgreeting", "timeouthelo", "timeoutmail", "timeoutrcpt", "timeoutdatainit", "timeoutdataend"], 3
)


def failing_at(stage: str, fault: str) -> Handler:
    """A server that answers as it should up to that stage, and then so, or not at all, or hangs up."""

    async def handler(peer: Peer) -> None:
        for reached in STAGES:
            if reached == "dot":
                await peer.reader.readuntil(b"\r\n.\r\n")
            elif reached != "greeting":
                await peer.hear()
            if reached == stage:
                break
            peer.say(OPEN.get(reached, "250 ok"))
        if fault == "silence":
            await peer.reader.read()
        elif fault:
            peer.say(fault)
            if fault[:3] in ("450", "550"):
                await peer.hear()
                peer.say(fault)  # to HELO, after EHLO was refused

    return handler


@pytest.fixture
def exchangers(make_nameserver: Callable[[list[str]], NameServer]) -> dict[str, Any]:
    """Settings by which nix.example has two exchangers, both at one free port."""
    server = make_nameserver(ZONE)
    return {"resolvers": (f"127.0.0.1:{server.port}",), "remoteport": free_port("127.0.0.2")}


async def listen(handler: Handler, host: str, settings: dict[str, Any]) -> Server:
    server = Server(handler)
    await server.start(host, settings["remoteport"])
    return server


def expected(stage: str, fault: str) -> Verdict:
    if stage in ("greeting", "EHLO") or (stage == "MAIL" and fault[:3] not in ("450", "550")):
        return Verdict.DELIVERED
    return Verdict.FAILED if fault == "550 no" else Verdict.DEFERRED


@pytest.mark.parametrize("stage", STAGES)
def test_the_next_address_is_tried_until_a_server_has_decided(stage: str, exchangers: dict[str, Any]) -> None:
    async def scenario() -> None:
        for fault in FAULTS:
            first = await listen(failing_at(stage, fault), "127.0.0.2", exchangers)
            second = await listen(good, "127.0.0.3", exchangers)
            async with role(**PATIENCE, **exchangers) as queue:
                (outcome,) = (await queue.attempt(b"nix.example")).outcomes
            assert (fault, outcome.verdict) == (fault, expected(stage, fault)), outcome.text
            assert len(second.contents) == (outcome.verdict == Verdict.DELIVERED)
            assert ("Possible duplicate" in outcome.text) == (
                stage == "dot" and fault[:3] not in ("421", "450", "550")
            )
            assert first.connections == 1
            for server in (first, second):
                assert server.listening is not None
                server.listening.close()

    play(scenario)


def test_what_the_last_address_said_is_reported(exchangers: dict[str, Any]) -> None:
    async def scenario() -> None:
        first = await listen(failing_at("MAIL", "421 first"), "127.0.0.2", exchangers)
        async with role(**exchangers) as queue:
            report = await queue.attempt(b"nix.example")
            assert "421 first" in report.outcomes[0].text
            assert not report.unreachable
            second = await listen(failing_at("MAIL", "421 second"), "127.0.0.3", exchangers)
            reports = await asyncio.gather(*(queue.attempt(b"nix.example", in_file=True) for _ in range(5)))
            assert all("421 second" in report.outcomes[0].text for report in reports)
        assert (first.connections, second.connections) == (6, 5)

    play(scenario)


def test_a_connection_that_died_before_its_first_message_costs_nothing() -> None:
    """It was opened for a message that another connection has taken meanwhile."""

    async def scenario() -> None:
        greet, hang_up = asyncio.Event(), asyncio.Event()

        async def handler(peer: Peer) -> None:
            number = peer.server.connections
            if number == 2:
                await greet.wait()
            await peer.greet("PIPELINING")
            if number == 2:
                await peer.hear()
                peer.say("421 you were silent for too long")
                return
            for _ in range(2):
                await peer.transaction()
            hang_up.set()

        server = await start(handler)
        async with role() as queue:
            await asyncio.gather(*(queue.attempt(server.destination) for _ in range(2)))
            await hang_up.wait()
            greet.set()
            await asyncio.sleep(0.2)
            report = await queue.attempt(server.destination)
            assert report.outcomes[0].verdict == Verdict.DELIVERED
        assert server.connections == 3
        assert server.contents == [CONTENT] * 3

    play(scenario)


def test_a_connection_that_dies_while_its_next_message_is_read_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(job: Job, offered: Extensions) -> Outcome | None:
        time.sleep(0.3)
        return prepare(job, offered)

    monkeypatch.setattr("ekiden.delivery.remote_session.prepare", slow)

    async def one(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.transaction()
        await asyncio.sleep(0.1)

    async def scenario() -> None:
        server = await start(one)
        async with role() as queue:
            for _ in range(2):
                report = await queue.attempt(server.destination, in_file=True)
                assert report.outcomes[0].verdict == Verdict.DELIVERED
        assert server.connections == 2

    play(scenario)


def unsteady(chance: random.Random) -> Handler:
    """A server that takes now more and now fewer connections, and ends them whenever it likes."""
    served: set[Peer] = set()

    async def handler(peer: Peer) -> None:
        served.add(peer)
        try:
            await asyncio.sleep(chance.random() * 0.02)
            if len(served) > chance.choice([1, 2, 4, 50]):
                peer.say("421 too many")
                return
            await peer.greet(*chance.choice([("PIPELINING", "8BITMIME"), ("X",)]))
            for _ in range(chance.randint(0, 5)):
                match chance.randint(0, 9):
                    case 0:
                        return
                    case 1:
                        await peer.hear()
                        peer.say("421 enough")
                        return
                await peer.transaction()
        finally:
            served.remove(peer)

    return handler


@pytest.mark.parametrize("seed", range(5))
def test_every_message_is_reported_whatever_a_server_does(seed: int) -> None:
    chance = random.Random(seed)

    async def scenario() -> None:
        server = await start(unsteady(chance))
        async with role(reusemessages=chance.choice([1, 3, 100])) as queue:
            for _ in range(3):
                attempts = [queue.attempt(server.destination, in_file=chance.random() < 0.3) for _ in range(30)]
                reports = await asyncio.gather(*attempts)
                assert {report.outcomes[0].verdict for report in reports} <= {Verdict.DELIVERED, Verdict.DEFERRED}

    play(scenario)

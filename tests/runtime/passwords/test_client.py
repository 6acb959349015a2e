"""The way to the keeper: questions and answers find each other, and a keeper that is away is no verdict."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import msgspec
import pytest

from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.passwords.client import TEMPORARY, Passwords
from ekiden.runtime.passwords.frames import CheckPassword, Denied, Forget, FromSmtpd, ToSmtpd, Verified


class Theatre:
    """Passwords, and the keeper's end of their connection, which the test plays."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.here = True
        self.asked: list[object] = []
        self.told: list[ToSmtpd] = []
        self.keeper: Link[FromSmtpd] | None = None
        self.connections = 0
        self.passwords = Passwords(loop, self._connect, Log("smtpd", os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)))

    def _connect(self) -> socket.socket:
        if not self.here:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        decoder: msgspec.msgpack.Decoder[FromSmtpd] = msgspec.msgpack.Decoder(FromSmtpd)
        self.keeper = Link(
            self.loop, theirs, decoder, lambda frame, _descriptor: self.asked.append(frame), lambda _reason: None
        )
        self.connections += 1
        return ours

    def ask(self, user: bytes) -> int:
        return self.passwords.ask(lambda token: CheckPassword(token, "192.0.2.1", user, b"word"), self.told.append)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)


def play(scene: Callable[[Theatre], object]) -> None:
    async def run() -> None:
        await scene(Theatre(asyncio.get_running_loop()))  # type: ignore[misc]

    asyncio.run(run())


def test_answers_come_in_any_order_on_one_connection() -> None:
    async def scene(theatre: Theatre) -> None:
        first, second = theatre.ask(b"a"), theatre.ask(b"b")
        await theatre.until(lambda: len(theatre.asked) == 2)
        assert theatre.keeper is not None
        theatre.keeper.send(Verified(second))
        theatre.keeper.send(Denied(first, "AUTH", "no"))
        theatre.keeper.send(Verified(second))
        await theatre.until(lambda: len(theatre.told) >= 2)
        assert theatre.told == [Verified(second), Denied(first, "AUTH", "no")]
        assert theatre.connections == 1

    play(scene)


def test_who_is_gone_is_told_nothing() -> None:
    async def scene(theatre: Theatre) -> None:
        token = theatre.ask(b"a")
        theatre.passwords.forget(token)
        theatre.passwords.forget(token)
        last = theatre.ask(b"b")
        await theatre.until(lambda: len(theatre.asked) == 3)
        assert theatre.asked[1] == Forget(token)
        assert theatre.keeper is not None
        theatre.keeper.send(Verified(token))
        theatre.keeper.send(Verified(last))
        await theatre.until(lambda: bool(theatre.told))
        assert theatre.told == [Verified(last)]

    play(scene)


@pytest.mark.parametrize("dies", [False, True])
def test_without_a_keeper_the_answer_is_later(dies: bool) -> None:
    async def scene(theatre: Theatre) -> None:
        theatre.here = dies
        token = theatre.ask(b"a")
        assert theatre.told == [], "an answer never comes before its question's token"
        if dies:
            await theatre.until(lambda: len(theatre.asked) == 1)
            assert theatre.keeper is not None
            theatre.keeper.close()
        await theatre.until(lambda: bool(theatre.told))
        (denied,) = theatre.told
        assert isinstance(denied, Denied)
        assert (denied.token, denied.code) == (token, TEMPORARY)
        theatre.here = True
        again = theatre.ask(b"a")
        await theatre.until(lambda: len(theatre.asked) == 1 + dies)
        assert theatre.keeper is not None
        theatre.keeper.send(Verified(again))
        await theatre.until(lambda: len(theatre.told) == 2)

    play(scene)

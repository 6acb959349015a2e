"""The way to the keeper of passwords, for a process that talks with clients: one connection, made when first needed.

While the keeper is away every question is answered with "later"; nobody is let in, and nobody is told to give up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import msgspec

from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.passwords.frames import BeginScram, CheckPassword, CheckScram, Denied, Forget, ToSmtpd

Asked = CheckPassword | BeginScram | CheckScram
Answered = Callable[[ToSmtpd], None]

MECHANISMS = {b"scram-sha-256": b"SCRAM-SHA-256", b"plain": b"PLAIN", b"login": b"LOGIN"}
"""What AUTH may offer, in the order of EHLO's line, by its name in control/authmechanisms."""

TEMPORARY = "SYS/TEMP"
"""The code of ``Denied`` for what is no verdict about the password."""


class Passwords:
    """``connect`` makes a connection to the keeper or raises OSError."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Callable[[], socket.socket], log: Log) -> None:
        self._loop = loop
        self._connect = connect
        self._log = log
        self._decoder = msgspec.msgpack.Decoder(ToSmtpd)
        self._link: Link[ToSmtpd] | None = None
        self._waiting: dict[int, Answered] = {}
        self._token = 0

    def ask(self, make: Callable[[int], Asked], answered: Answered) -> int:
        """Ask what ``make`` makes of a token, which is returned; ``answered`` is called once, later."""
        self._token = token = self._token + 1
        self._waiting[token] = answered
        link = self._link or self._reach()
        if link is None:
            self._loop.call_soon(self._answer, _unreachable(token), None)
        else:
            link.send(make(token))
        return token

    def forget(self, token: int) -> None:
        """Whoever asked this is gone."""
        if self._waiting.pop(token, None) is not None and self._link is not None:
            self._link.send(Forget(token))

    def _reach(self) -> Link[ToSmtpd] | None:
        try:
            connection = self._connect()
        except OSError as error:
            self._log.warning(f"unable to reach the keeper of passwords: {error.strerror}")
            return None
        self._link = Link(self._loop, connection, self._decoder, self._answer, self._lost)
        return self._link

    def _answer(self, frame: ToSmtpd, _descriptor: int | None) -> None:
        answered = self._waiting.pop(frame.token, None)
        if answered is not None:
            answered(frame)

    def _lost(self, reason: str) -> None:
        self._link = None
        waiting, self._waiting = self._waiting, {}
        if waiting:
            self._log.warning(f"connection to the keeper of passwords lost: {reason}; {len(waiting)} answers owed")
        for token, answered in waiting.items():
            answered(_unreachable(token))


def _unreachable(token: int) -> Denied:
    return Denied(token, TEMPORARY, "passwords cannot be checked now, try again later")

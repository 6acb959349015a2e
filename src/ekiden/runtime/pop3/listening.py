"""The POP3 door: accepts clients, limits them, and stands between their connections and the keeper.

It runs as nobody and knows no password. Everything that a client says before it is verified is heard here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from functools import partial

import msgspec

from ekiden.policy.tcprules import RulesFile
from ekiden.runtime.certificate import ServerCertificate
from ekiden.runtime.link import Link
from ekiden.runtime.listeners import Listeners, is_of_this_host
from ekiden.runtime.passwords.frames import Forget
from ekiden.runtime.pop3.connection import Connection, Door
from ekiden.runtime.pop3.frames import Enter, Left, Question, ToDoor
from ekiden.runtime.role import Context
from ekiden.settings.schema import Listener, Settings
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.session import error

SERVICES = frozenset({"pop3", "pop3s"})
RULES = "tcp.pop3"
MECHANISMS = {b"plain": b"PLAIN", b"scram-sha-256": b"SCRAM-SHA-256"}
APOP = b"apop"

_SWEEP_SECONDS = 1.0
_DENIED = b""
_BUSY = error("too many connections, try again later", "SYS/TEMP")
_BUSY_CLIENT = error("too many connections from your address, try again later", "SYS/TEMP")


async def main(context: Context, connection: socket.socket) -> None:
    """Serve until ``context.stopping``, or, after ``context.draining``, until the clients that are here have left.

    ``connection`` leads to the keeper, without which there is nothing to do.
    """
    listening = Listening(context, connection)
    rules = [context.control / name for name in ("", RULES, f"{RULES}.cdb")]
    context.isolate("pop3d", reads=rules)
    for listener, bound in context.listeners:
        if listener.service in SERVICES:
            await listening.listen(listener, bound)
        else:
            bound.close()
    events = (context.stopping, context.draining, listening.alone)
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    listening.accepting.close()
    context.door_closed()
    if context.draining.is_set():
        emptied = asyncio.create_task(listening.empty())
        await asyncio.wait(
            (emptied, waiting[0], waiting[2]),
            timeout=context.settings.reloadseconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
    await listening.stop()


class Listening:
    """What the connections of this process share; see ``connection.Hall``."""

    def __init__(self, context: Context, connection: socket.socket) -> None:
        self.loop = asyncio.get_running_loop()
        self.log = context.log
        self.now = 0
        self.silent_seconds = context.settings.timeoutpop3d
        self.alone = asyncio.Event()
        self._settings = context.settings
        self._secure = ServerCertificate(context)
        self.tls = self._secure.context
        self._census = context.census
        self._rules = RulesFile(context.control / RULES)
        self._listeners = Listeners("pop3d", self.loop, self._settings, self.log, self.tls, lambda: len(self._here))
        self.accepting = self._listeners.accepting
        self._tokens = itertools.count(1)
        self._here: dict[int, Connection] = {}
        self._counted: dict[int, tuple[str, str]] = {}
        self._emptied = asyncio.Event()
        self._began = self.loop.time()
        self._link: Link[ToDoor] = Link(
            self.loop, connection, msgspec.msgpack.Decoder(ToDoor), self._told, lambda _reason: self.alone.set()
        )
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    async def listen(self, listener: Listener, bound: socket.socket) -> None:
        """Accept on a bound socket, if that can be."""
        door = Door(listener, self._listeners.tls_at(listener))
        await self._listeners.open(listener, bound, partial(Connection, self, door))

    async def empty(self) -> None:
        """Wait until no client is left that needs this process."""
        await asyncio.sleep(self._listeners.beginning_seconds)
        while self._here:
            self._emptied.clear()
            await self._emptied.wait()

    async def stop(self) -> None:
        """Send everybody away who has no session; sessions with TLS end when their processes end."""
        for connection in tuple(self._here.values()):
            connection.dismiss("shutting down, come back later", "SYS/TEMP")
        try:
            async with asyncio.timeout(0 if self.alone.is_set() else self._settings.shutdownseconds):
                while self._here:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            for connection in tuple(self._here.values()):
                connection.abort()
        self._sweeper.cancel()
        self._link.close()

    # What the connections call.

    def enter(self, connection: Connection, address: str) -> Profile | bytes:
        """Admit a client and number it, or say with which words it is sent away."""
        where = connection.door.listener.where
        if not self._rules.current().lookup(address).allow:
            return self._refuse(address, "denied by rule", _DENIED)
        at_listener, of_client = self._census.enter(where, address)
        if at_listener > self._settings.connectionsmax or of_client > self._settings.connectionsperclient:
            self._census.leave(where, address)
            busy = _BUSY if at_listener > self._settings.connectionsmax else _BUSY_CLIENT
            return self._refuse(address, "too many connections", busy)
        connection.token = next(self._tokens)
        self._here[connection.token] = connection
        self._counted[connection.token] = where, address
        return make_profile(self._settings, self.tls is not None, address, connection.token)

    def leave(self, connection: Connection, address: str) -> None:
        """A client that had been admitted is gone, or has gone in: then it is counted until it leaves there."""
        del self._here[connection.token]
        if not connection.entered:
            self._discount(connection.token)
        if not self._here:
            self._emptied.set()

    def ask(self, frame: Question | Enter, descriptor: int | None = None) -> None:
        """To the keeper."""
        self._link.send(frame, descriptor)

    def forget(self, token: int) -> None:
        """To the keeper."""
        self._link.send(Forget(token))

    def _told(self, frame: ToDoor, _descriptor: int | None) -> None:
        if isinstance(frame, Left):
            self._discount(frame.token)
            return
        connection = self._here.get(frame.token)
        if connection is not None:
            connection.told(frame)

    def _discount(self, token: int) -> None:
        counted = self._counted.pop(token, None)
        if counted is not None:
            self._census.leave(*counted)

    def _refuse(self, address: str, reason: str, words: bytes) -> bytes:
        self.log.event("refuse", f"refuse: pop3: {address}: {reason}", client=address, reason=reason)
        return words

    def _sweep(self) -> None:
        self.now = int(self.loop.time() - self._began)
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        self.accepting.look()
        for connection in tuple(self._here.values()):
            connection.check()
        if news := self._rules.news():
            self.log.alert(news)


def make_profile(settings: Settings, tls: bool, address: str = "", number: int = 0) -> Profile:
    """What a client is offered. ``number`` makes the greeting's timestamp unique in this process."""
    wanted = {name.lower() for name in settings.pop3mechanisms}
    stamp = f"<{os.getpid()}.{time.time_ns()}.{number}@".encode() + settings.me + b">"
    here = is_of_this_host(address)
    return Profile(
        greeting=f"{settings.me.decode('ascii', 'replace')} POP3",
        timestamp=stamp if APOP in wanted else b"",
        starttls=tls,
        plaintext=settings.pop3plaintext == "always" or (settings.pop3plaintext == "auto" and (here or not tls)),
        mechanisms=tuple(name for key, name in MECHANISMS.items() if key in wanted),
        errors=settings.errorsmax,
        command_octets=settings.commandbytes,
        login_delay=settings.pop3logindelay,
    )

"""A POP3 client up to its login: an asyncio protocol that drives the engine and asks the keeper.

After the login the connection is the session's: a plain one by its descriptor, which is closed here; one with TLS by
a socket pair behind it, for which this process goes on to encrypt and decrypt.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from ekiden.runtime.handshake import secure
from ekiden.runtime.log import Log
from ekiden.runtime.passwords.frames import BeginScram, CheckPassword, CheckScram, Denied, ScramOffer, Verified
from ekiden.runtime.pop3.frames import CheckApop, Enter, Question, ToDoor
from ekiden.runtime.pop3.relay import Relay
from ekiden.runtime.proxied import plain_address
from ekiden.settings.schema import Listener
from ekiden.wire.pop3.events import (
    Apop,
    Ended,
    Event,
    Login,
    Proven,
    ScramBegins,
    ScramProof,
    StartTls,
)
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server

_LINGER_SECONDS = 10
_DRAIN_SECONDS = 0.02


class Door:
    """A listener. ``tls``: connections begin with a handshake."""

    def __init__(self, listener: Listener, tls: ssl.SSLContext | None) -> None:
        self.listener = listener
        self.tls = tls


class Hall(Protocol):
    """What the connections of a process share. ``now``: seconds, advanced by whoever calls ``check``."""

    loop: asyncio.AbstractEventLoop
    log: Log
    tls: ssl.SSLContext | None
    now: int
    silent_seconds: int

    def enter(self, connection: Connection, address: str) -> Profile | bytes:
        """Admit a client, or say with which words, perhaps none, it is sent away."""

    def leave(self, connection: Connection, address: str) -> None:
        """An admitted client's connection is gone, or is another process's."""

    def ask(self, frame: Question | Enter, descriptor: int | None = None) -> None:
        """Send a frame to the keeper; its answer comes by ``told``."""

    def forget(self, token: int) -> None:
        """The client of this token is gone."""


class Connection(asyncio.Protocol):
    """A connection. ``address`` is the client's, if its transport's peer is not it; ``token`` its number."""

    def __init__(self, hall: Hall, door: Door, address: str = "") -> None:
        self.door = door
        self.token = 0
        self.entered = False
        self._hall = hall
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._server: Server | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._relay: Relay | None = None
        self._stirred = hall.now
        self._closing = False
        self._scram = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have asyncio's methods but not its classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        if not self._address:
            self._address = plain_address(transport.get_extra_info("peername"))
        profile = self._hall.enter(self, self._address)
        if isinstance(profile, bytes):
            transport.write(profile)
            transport.close()
            return
        self._server = server = Server(profile, self.door.tls is not None)
        server.greet()
        transport.write(server.output())

    def data_received(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.send(data)
        elif self._server is not None and not self._closing:
            self._stirred = self._hall.now
            self._server.receive(data)
            self._advance()

    def eof_received(self) -> bool:
        if self._relay is not None:
            self._relay.finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        self._transport = None
        if self._relay is not None:
            self._relay.close()
        if self._server is not None:
            self._server = None
            self._hall.leave(self, self._address)
            if not self.entered:
                self._hall.forget(self.token)

    def pause_writing(self) -> None:
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        if self._relay is not None:
            self._relay.resume()

    # What the role calls.

    def told(self, frame: ToDoor) -> None:
        """The keeper's answer."""
        server, transport = self._server, self._transport
        if server is None or transport is None or not server.answering:
            return
        self._stirred = self._hall.now
        if isinstance(frame, Denied):
            server.refuse(frame.text, frame.code)
        elif isinstance(frame, ScramOffer):
            server.offer(frame.salt, frame.iterations, secrets.token_urlsafe(18).encode())
        elif isinstance(frame, Verified) and frame.signature:
            server.sign(frame.signature)
        else:
            self._go_in()
            return
        transport.resume_reading()
        self._advance()

    def check(self) -> None:
        """Send the client away if it has been silent for too long."""
        if self._server is None or self._relay is not None or self._handshake is not None or self.entered:
            return
        silent = self._hall.now - self._stirred
        if self._closing and silent > _LINGER_SECONDS:
            self.abort()
        elif not self._closing and not self._server.answering and silent > self._hall.silent_seconds:
            self.dismiss("idle for too long")

    def dismiss(self, text: str, code: str = "") -> None:
        """Send the client away, unless it has a session."""
        if self._server is not None and not self.entered and self._handshake is None and not self._closing:
            self._stirred = self._hall.now
            self._server.farewell(text, text, code)
            self._advance()

    def abort(self) -> None:
        """Cut the connection off."""
        if self._transport is not None:
            self._transport.abort()

    # Events of the engine.

    def _advance(self) -> None:
        server, transport = self._server, self._transport
        assert server is not None and transport is not None
        try:
            while (event := server.next_event()) is not None:
                _HANDLERS[type(event)](self, event)
        except Exception as fault:  # a fault in one session must not end it in silence, nor harm another
            self._hall.log.fault(f"pop3: {self._address}", fault, client=self._address)
            server.farewell("internal error, try again later", "fault", "SYS/TEMP")
            self._closing = True
        if self._handshake is None and not self.entered:
            output = server.output()
            if output:
                transport.write(output)
            if self._closing:
                transport.close()

    def _ask(self, frame: Question) -> None:
        """What comes meanwhile stays in the kernel, for whoever will read it."""
        assert self._transport is not None
        self._transport.pause_reading()
        self._hall.ask(frame)

    def _login(self, event: Login) -> None:
        self._ask(CheckPassword(self.token, self._address, event.user, event.password))

    def _apop(self, event: Apop) -> None:
        assert self._server is not None
        stamp = self._server.profile.timestamp
        self._ask(CheckApop(self.token, self._address, event.user, stamp, event.digest))

    def _scram_begins(self, event: ScramBegins) -> None:
        self._ask(BeginScram(self.token, self._address, event.user))

    def _scram_proof(self, event: ScramProof) -> None:
        self._ask(CheckScram(self.token, self._address, event.user, event.signed, event.proof))

    def _proven(self, _event: Proven) -> None:
        assert self._transport is not None
        self._transport.pause_reading()
        self._go_in()

    def _ended(self, _event: Ended) -> None:
        self._closing = True

    def _start_tls(self, _event: StartTls) -> None:
        assert self._server is not None and self._transport is not None
        self._server.answer()
        self._transport.write(self._server.output())
        self._handshake = self._hall.loop.create_task(self._secure())

    async def _secure(self) -> None:
        hall, server = self._hall, self._server
        assert self._transport is not None and server is not None
        transport = await secure(self._transport, self, hall.tls, hall.log, self._address)
        self._handshake = None
        if transport is None:
            self.connection_lost(None)
            return
        self._transport = transport
        self._stirred = hall.now
        server.secured()
        self._advance()

    # Going on as the user.

    def _go_in(self) -> None:
        """Hand the connection over once everything that was said is on its way."""
        server, transport = self._server, self._transport
        if server is None or transport is None:
            return
        output = server.output()
        if output:
            transport.write(output)
        if server.tls:
            self.entered = True
            self._hall.loop.create_task(self._relay_from_now_on(server))
        elif transport.get_write_buffer_size():
            self._hall.loop.call_later(_DRAIN_SECONDS, self._go_in)
        else:
            self.entered = True
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
            self._hall.ask(Enter(self.token, False, server.unread), descriptor)
            # Closes our descriptor; the connection goes on by the other one.
            transport.abort()

    async def _relay_from_now_on(self, server: Server) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._relay = relay = Relay(self)
        self._hall.ask(Enter(self.token, True, server.unread), theirs.detach())
        await self._hall.loop.create_connection(lambda: relay, sock=ours)
        if self._transport is not None:
            self._transport.resume_reading()

    # What the relay calls.

    def write(self, data: bytes) -> None:
        """To the client."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """The session is over."""
        if self._transport is not None:
            self._transport.close()

    def regulate(self, reading: bool) -> None:
        """Whether to read from the client."""
        if self._transport is not None:
            (self._transport.resume_reading if reading else self._transport.pause_reading)()


_HANDLERS: Mapping[type[Event], Callable[[Connection, Any], None]] = {
    Login: Connection._login,
    Apop: Connection._apop,
    ScramBegins: Connection._scram_begins,
    ScramProof: Connection._scram_proof,
    Proven: Connection._proven,
    StartTls: Connection._start_tls,
    Ended: Connection._ended,
}

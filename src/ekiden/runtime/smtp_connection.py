"""One SMTP client's connection: an asyncio protocol that drives a ``Reception``.

Octets go in as they come, replies leave in one write per read. Reading pauses while the client does not read its
replies, or while an answer is owed and enough input waits. The last words of a session are written before the close;
a client that does not take them is cut off by ``check``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple, Protocol, cast

from ekiden.base.reply import Reply
from ekiden.runtime.handshake import secure
from ekiden.runtime.log import Log
from ekiden.runtime.proxied import plain_address
from ekiden.runtime.receiving import Caller
from ekiden.runtime.reception import Client, Desk, Reception
from ekiden.runtime.smtp_login import LoginReception
from ekiden.settings.schema import Listener, Settings

_LINGER_SECONDS = 10

_TIMEOUT = Reply(421, "4.4.2", "timeout")
_TOO_LONG = Reply(421, "4.4.2", "session lasts too long")
_FAULT = Reply(421, "4.3.0", "internal error, try again later")
_STOPPING = Reply(421, "4.3.2", "shutting down, try again later")


class Hall(Protocol):
    """What the connections of a process share. ``now``: seconds, advanced by whoever calls ``check``."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    log: Log
    desk: Desk
    tls: ssl.SSLContext | None
    stopping: bool
    now: int

    def enter(self, connection: Connection, address: str) -> Caller | Reply | None:
        """Admit a client, or say with which words, or without, it is sent away."""

    def leave(self, connection: Connection, address: str) -> None:
        """An admitted client's connection is gone."""


class Kind(NamedTuple):
    """What is spoken at a door, and whether clients may or must log in (``Listener.auth``)."""

    lmtp: bool
    auth: str


class Door:
    """A listener and how many of its clients are here. ``tls``: connections begin with a handshake."""

    __slots__ = ("kind", "listener", "present", "tls")

    def __init__(self, listener: Listener, tls: ssl.SSLContext | None) -> None:
        self.listener = listener
        self.kind = Kind(listener.service == "lmtp", listener.auth)
        self.tls = tls
        self.present = 0


class Connection(asyncio.Protocol):
    """A connection from its beginning to its end. ``address`` is the client's, if its transport's peer is not it."""

    __slots__ = (
        "_address",
        "_began",
        "_blocked",
        "_closing",
        "_eof",
        "_hall",
        "_handshake",
        "_paused",
        "_reception",
        "_stirred",
        "_transport",
        "door",
    )

    def __init__(self, hall: Hall, door: Door, address: str = "") -> None:
        self.door = door
        self._hall = hall
        self._transport: asyncio.Transport | None = None
        self._reception: Reception | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._address = address
        self._began = self._stirred = hall.now
        self._blocked = self._closing = self._eof = self._paused = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have asyncio's methods but not its classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        if not self._address:
            self._address = plain_address(transport.get_extra_info("peername"))
        hall = self._hall
        client = hall.enter(self, self._address)
        if isinstance(client, Reply):
            transport.write(client.encode())
        if not isinstance(client, Client):
            transport.close()
            return
        self._reception = reception = LoginReception(hall.desk, client, self, self.door.tls is not None)
        reception.server.greet()
        transport.write(reception.server.output())

    def data_received(self, data: bytes) -> None:
        reception = self._reception
        if reception is None or self._closing:
            return
        server = reception.server
        if not server.halfway:
            # Who sends a command octet by octet has no more time for it than who is silent.
            self._stirred = self._hall.now
        server.receive(data)
        self._advance(reception)

    def eof_received(self) -> bool:
        """The client has said everything; what it is owed it still gets, unless TLS ended with its words."""
        self._eof = True
        return self._reception is not None and self._reception.server.answering and not self._reception.server.tls

    def pause_writing(self) -> None:
        self._blocked = True
        self._regulate()

    def resume_writing(self) -> None:
        self._blocked = False
        self._stirred = self._hall.now
        self._regulate()

    def connection_lost(self, exc: Exception | None) -> None:
        reception, self._reception = self._reception, None
        self._transport = None
        if self._handshake is not None:
            self._handshake.cancel()
        if reception is not None:
            reception.lost()
            self._hall.leave(self, self._address)

    # What the reception calls.

    def ready(self) -> None:
        """An answer came, or there is room for content again."""
        reception, hall = self._reception, self._hall
        if reception is None:
            return
        self._stirred = hall.now
        if hall.stopping:
            # Before the next transaction begins, which may be pipelined.
            self.stop_if_idle()
        if not self._closing:
            self._advance(reception)

    def start_tls(self) -> None:
        """Make the handshake, once what is to be said in clear is on its way."""
        self._handshake = self._hall.loop.create_task(self._secure())

    def ended(self) -> None:
        """The engine has said its last words."""
        self._closing = True

    # What the role calls.

    def check(self) -> None:
        """Send the client away if it has been silent, or here, for too long."""
        reception, hall = self._reception, self._hall
        if reception is None or self._handshake is not None:
            return
        silent = hall.now - self._stirred
        if self._closing:
            if silent > _LINGER_SECONDS:
                self.abort()
        elif reception.server.answering or reception.full:
            return
        elif silent > hall.settings.timeoutsmtpd:
            self._dismiss(reception, _TIMEOUT)
        elif 0 < hall.settings.sessionseconds < hall.now - self._began:
            self._dismiss(reception, _TOO_LONG)

    def stop_if_idle(self) -> None:
        """Send the client away unless a transaction is at hand."""
        if self._reception is not None and self._reception.server.idle:
            self.stop()

    def stop(self) -> None:
        """Send the client away, whatever is at hand."""
        if self._reception is not None and self._handshake is None and not self._closing:
            self._dismiss(self._reception, _STOPPING)

    def abort(self) -> None:
        """Cut the connection off."""
        if self._handshake is not None:
            self._handshake.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _dismiss(self, reception: Reception, reply: Reply) -> None:
        self._stirred = self._hall.now
        reception.server.farewell(reply, reply.text)
        self._advance(reception)

    def _advance(self, reception: Reception) -> None:
        try:
            reception.proceed()
        except Exception as error:  # a fault in one session must not end it in silence, nor harm another
            self._break_off(reception, error)
        self._flush(reception)

    def _break_off(self, reception: Reception, error: Exception) -> None:
        """A fault of ours: tell the client to come back, and the administrator what happened."""
        self._hall.log.fault(f"smtp: {self._address}", error, client=self._address)
        reception.drop()
        reception.server.farewell(_FAULT, "fault")
        reception.proceed()

    def _flush(self, reception: Reception) -> None:
        """Send what there is to say, then close, pause or go on as the session asks for."""
        transport = self._transport
        assert transport is not None
        server = reception.server
        output = server.output()
        if output:
            transport.write(output)
        if self._closing:
            transport.close()
            return
        if self._paused or reception.full:
            self._regulate()
        if self._eof and not server.answering:
            self._closing = True
            transport.close()
        elif self._hall.stopping:
            self.stop_if_idle()

    def _regulate(self) -> None:
        reception, transport = self._reception, self._transport
        if reception is None or transport is None or self._closing or self._eof:
            return
        wanted = self._blocked or reception.full
        if wanted != self._paused:
            self._paused = wanted
            if wanted:
                transport.pause_reading()
            else:
                transport.resume_reading()

    async def _secure(self) -> None:
        hall, reception = self._hall, self._reception
        assert self._transport is not None and reception is not None
        self._transport.write(reception.server.output())
        transport = await secure(self._transport, self, hall.tls, hall.log, self._address)
        self._handshake = None
        if transport is None:
            self.connection_lost(None)
            return
        self._transport = transport
        self._stirred = hall.now
        reception.server.secured()
        self._advance(reception)

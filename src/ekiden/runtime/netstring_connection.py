"""One QMTP or QMQP client's connection: ``smtp_connection.Connection`` around a ``NetstringReception``.

These protocols have no words for a client that is too many, too slow or here at the wrong time: its connection is
closed, and it tries again. What was asked and not answered it must take to be not done.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

from ekiden.base.reply import Reply
from ekiden.policy.tcprules import RulesFile
from ekiden.runtime.deposit import Deposit
from ekiden.runtime.netstring_reception import Desk, NetstringReception
from ekiden.runtime.proxied import plain_address
from ekiden.runtime.receiving import Caller
from ekiden.runtime.reception import Desk as SmtpDesk
from ekiden.runtime.reception import Reception
from ekiden.runtime.smtp_connection import Connection, Door
from ekiden.runtime.trace import invoked
from ekiden.settings.schema import Listener
from ekiden.wire import qmqp, qmtp
from ekiden.wire.netstring_session import NetstringSession

SERVICES = frozenset({"qmtp", "qmqp"})


class NetstringDoor(Door):
    """A listener with its rules. QMQP is only for clients that a rule lets relay, and may send anything then."""

    __slots__ = ("_rules", "_smtp", "desk", "trusted")

    def __init__(self, listener: Listener, control: Path, desk: SmtpDesk) -> None:
        super().__init__(listener, None)
        self.trusted = listener.service == "qmqp"
        self.desk = _desk(listener.service, desk)
        self._smtp = desk
        self._rules = RulesFile(control / f"tcp.{listener.service}")

    def client(self, address: str) -> Caller | None:
        """Who this is; None if it is not to be served."""
        rules = self._rules.current()
        if news := self._rules.news():
            self._smtp.log.alert(news)
        verdict = rules.lookup(address)
        policy = self._smtp.acceptance.client(address, verdict)
        if not verdict.allow or (self.trusted and not policy.relay):
            return None
        said = verdict.environment
        return Caller(address, policy, said.get(b"TCPREMOTEHOST", b""), said.get(b"TCPREMOTEINFO", b""))

    def session(self, client: Caller) -> NetstringSession:
        """A new engine for a client."""
        if self.trusted:
            return qmqp.Session()
        return qmtp.Session(client.policy.databytes, self._smtp.settings.recipientsmax)


class NetstringConnection(Connection):
    """A connection from its beginning to its end; its door is a ``NetstringDoor``."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the client, or close; these protocols greet nobody."""
        # uvloop's transports have asyncio's methods but not its classes.
        self._transport = cast(asyncio.Transport, transport)
        if not self._address:
            self._address = plain_address(transport.get_extra_info("peername"))
        client = self._hall.enter(self, self._address)
        if not isinstance(client, Caller):
            transport.close()
            return
        assert isinstance(self.door, NetstringDoor)
        reception = _Reception(self.door.desk, client, self, self.door.session(client))
        # It has all that a connection needs of one.
        self._reception = cast(Reception, reception)


class _Reception(NetstringReception):
    def _receipt(self, message: int) -> bytes:
        return b"qp %d msg %d" % (self._desk.pid, message)


def _desk(service: str, desk: SmtpDesk) -> Desk:
    def mark() -> bytes:
        return invoked(desk.pid, b"from network", time.time()) + b"\r\n"

    def refused(client: str, reply: Reply, sender: bytes, recipient: bytes) -> None:
        desk.log.refusal(client, service, sender, recipient, reply)

    return Desk(
        service.upper(),
        desk.acceptance if service == "qmtp" else None,
        lambda on_room: Deposit(desk.intake, on_room),
        desk.settings.hopsmax,
        desk.settings.me,
        desk.pid,
        desk.uid,
        mark,
        refused,
    )

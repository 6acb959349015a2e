"""The smtpd role: SMTP, LMTP, QMTP and QMQP with the network, one or several processes on the same listeners.

It knows the policy and the way into the queue, and opens neither queue nor mailbox. Each connection is one protocol
object and no task; one timer per process finds those that are silent or last too long.
"""

from __future__ import annotations

import asyncio
import socket
from functools import lru_cache, partial
from pathlib import Path

from ekiden.base.reply import Reply
from ekiden.policy.acceptance import Acceptance
from ekiden.policy.tcprules import RulesFile
from ekiden.runtime.certificate import ServerCertificate
from ekiden.runtime.intake import Intake
from ekiden.runtime.listeners import Listeners, is_of_this_host
from ekiden.runtime.netstring_connection import SERVICES as NETSTRING_SERVICES
from ekiden.runtime.netstring_connection import NetstringConnection, NetstringDoor
from ekiden.runtime.passwords.client import MECHANISMS, Passwords
from ekiden.runtime.receiving import Caller
from ekiden.runtime.reception import Client, Desk
from ekiden.runtime.role import Context
from ekiden.runtime.smtp_connection import Connection, Door, Kind
from ekiden.runtime.smtp_profile import make_profile
from ekiden.settings.schema import Listener, Settings
from ekiden.wire.smtp.profile import Profile

SERVICES = frozenset({"smtp", "smtps", "submission", "lmtp"}) | NETSTRING_SERVICES
RULES = {False: "tcp.smtp", True: "tcp.lmtp"}
"""The clients' rules in control/, for LMTP and the others; QMTP and QMQP have their own, with their doors."""

_SWEEP_SECONDS = 1.0
_LAST_WORDS_SECONDS = 0.1
_CLIENTS_REMEMBERED = 10_000

_BUSY = Reply(421, "4.7.0", "too many connections, try again later")
_BUSY_CLIENT = Reply(421, "4.7.0", "too many connections from your address, try again later")


async def main(context: Context) -> None:
    """Serve until ``context.stopping``; then finish what is at hand, at most ``shutdownseconds``.

    After a reload, which is ``context.draining``, the sessions that are here go on for up to ``reloadseconds``.
    """
    role = SmtpdRole(context)
    context.isolate("smtpd", reads=_read_again(context))
    for listener, bound in context.listeners:
        if listener.service in SERVICES:
            await role.listen(listener, bound)
        else:
            bound.close()
    context.ready()
    waiting = [asyncio.create_task(event.wait()) for event in (context.stopping, context.draining)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    role.accepting.close()
    context.door_closed()
    if not context.stopping.is_set():
        await role.drain(waiting[0])
    await role.stop()
    context.log.flush()


def _read_again(context: Context) -> list[Path]:
    """What is read when it changes: rules and tables, which may be put in their place or be links to elsewhere."""
    control = context.control
    names = (*RULES.values(), *(f"tcp.{service}" for service in NETSTRING_SERVICES), "morercpthosts")
    return [control, *(control / (name + end) for name in names for end in ("", ".cdb"))]


class SmtpdRole:
    """What the connections of this process share; see ``smtp_connection.Hall``."""

    def __init__(self, context: Context) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings = context.settings
        self.control = context.control
        self.log = context.log
        self.stopping = False
        self.now = 0
        self.connections: set[Connection] = set()
        self._secure = ServerCertificate(context)
        self.tls = self._secure.context
        self._census = context.census
        self._rules_files = {lmtp: RulesFile(self.control / name) for lmtp, name in RULES.items()}
        self._rules = {lmtp: file.current() for lmtp, file in self._rules_files.items()}
        self._clients: dict[tuple[str, Kind], Client | None] = {}
        self._acceptance = Acceptance(settings)
        self._profile = lru_cache(maxsize=64)(self._make_profile)
        intake = Intake(
            self.loop, lambda: context.connect("intake"), settings.inlinebytes, settings.timeoutqueue, context.log
        )
        passwords = Passwords(self.loop, lambda: context.connect("keeper"), context.log)
        self.desk = Desk(settings, self._acceptance, intake, context.log, passwords)
        self._listeners = Listeners(
            "smtpd", self.loop, settings, context.log, self.tls, lambda: len(self.connections)
        )
        self.accepting = self._listeners.accepting
        self._emptied = asyncio.Event()
        self._began = self.loop.time()
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    async def listen(self, listener: Listener, bound: socket.socket) -> None:
        """Accept on a bound socket, if that can be."""
        kind, door = Connection, Door(listener, self._listeners.tls_at(listener))
        if listener.service in NETSTRING_SERVICES:
            kind, door = NetstringConnection, NetstringDoor(listener, self.control, self.desk)
        await self._listeners.open(listener, bound, partial(kind, self, door))

    async def drain(self, stopping: asyncio.Task[bool]) -> None:
        """Wait until all clients have left, or we are to stop; at most ``reloadseconds``."""
        await asyncio.wait((stopping,), timeout=self._listeners.beginning_seconds)
        emptied = asyncio.create_task(self._empty())
        await asyncio.wait(
            (emptied, stopping), timeout=self.settings.reloadseconds, return_when=asyncio.FIRST_COMPLETED
        )
        emptied.cancel()

    async def _empty(self) -> None:
        while self.connections:
            self._emptied.clear()
            await self._emptied.wait()

    async def stop(self) -> None:
        """Let the transactions at hand end, send everyone else away."""
        self.stopping = True
        for connection in tuple(self.connections):
            connection.stop_if_idle()
        try:
            async with asyncio.timeout(self.settings.shutdownseconds):
                await self._empty()
        except TimeoutError:
            for connection in tuple(self.connections):
                connection.stop()
            await asyncio.sleep(_LAST_WORDS_SECONDS)
            for connection in tuple(self.connections):
                connection.abort()
        self._sweeper.cancel()
        self.desk.intake.close()

    def enter(self, connection: Connection, address: str) -> Caller | Reply | None:
        """Who this is; a reply to send them away with; or None, to close without a word (a rule denies)."""
        door = connection.door
        client = door.client(address) if isinstance(door, NetstringDoor) else self._client(address, door.kind)
        if client is None:
            self.log.event("refuse", f"refuse: {address}: denied by rule", client=address, reason="denied by rule")
            return None
        where = connection.door.listener.where
        at_listener, of_client = self._census.enter(where, address)
        busy = _BUSY if at_listener > self.settings.connectionsmax else None
        if busy is None and of_client > self.settings.connectionsperclient:
            busy = _BUSY_CLIENT
        if busy is not None:
            self._census.leave(where, address)
            self._refused(address, busy)
            return busy
        self.connections.add(connection)
        return client

    def leave(self, connection: Connection, address: str) -> None:
        """A connection that had entered is gone."""
        self.connections.discard(connection)
        self._census.leave(connection.door.listener.where, address)
        if not self.connections:
            self._emptied.set()

    def _client(self, address: str, kind: Kind) -> Client | None:
        """Policy and limits of a client address, None if a rule denies it; remembered until the rules change."""
        try:
            return self._clients[address, kind]
        except KeyError:
            pass
        verdict = self._rules[kind.lmtp].lookup(address)
        client = None
        if verdict.allow:
            environment = verdict.environment
            policy = self._acceptance.client(address, verdict)
            served = kind._replace(auth="yes") if policy.relay and kind.auth == "required" else kind
            client = Client(
                address,
                policy,
                self._profile(policy.databytes, served, self._may_say_password(address)),
                environment.get(b"TCPREMOTEHOST", b""),
                environment.get(b"TCPREMOTEINFO", b""),
            )
        if len(self._clients) >= _CLIENTS_REMEMBERED:
            self._clients.clear()
        self._clients[address, kind] = client
        return client

    def _may_say_password(self, address: str) -> bool:
        """Whether a client may log in without TLS."""
        allowed = self.settings.authplaintext
        return allowed == "always" or (allowed == "local" and is_of_this_host(address))

    def _refused(self, address: str, reply: Reply) -> None:
        said = f"{reply.code} {reply.status} {reply.text}"
        self.log.event(
            "refuse",
            f"refuse: {address}: {said}",
            client=address,
            code=reply.code,
            status=reply.status,
            reason=reply.text,
        )

    def _sweep(self) -> None:
        self.now = int(self.loop.time() - self._began)
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        self.accepting.look()
        for connection in tuple(self.connections):
            connection.check()
        for lmtp, file in self._rules_files.items():
            self._look_at_rules(lmtp, file)

    def _look_at_rules(self, lmtp: bool, file: RulesFile) -> None:
        rules = file.current()
        if rules is not self._rules[lmtp]:
            self._rules[lmtp] = rules
            self._clients.clear()
        if news := file.news():
            self.log.alert(news)

    def _make_profile(self, databytes: int, kind: Kind, plaintext: bool) -> Profile:
        offered = mechanisms(self.settings) if kind.auth != "no" else ()
        required = kind.auth == "required"
        return make_profile(self.settings, databytes, self.tls is not None, kind.lmtp, offered, plaintext, required)


def mechanisms(settings: Settings) -> tuple[bytes, ...]:
    """What AUTH offers, in the order of EHLO's line."""
    wanted = {name.lower() for name in settings.authmechanisms}
    return tuple(name for key, name in MECHANISMS.items() if key in wanted)

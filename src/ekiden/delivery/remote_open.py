"""Opening a connection to a destination: its addresses in turn until one takes messages.

An address is passed over if it timed out lately, does not answer, or greets with a refusal. A destination that
answers nowhere is unreachable. Source: RFC 5321 section 5.1, qmail-remote(8).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from ekiden.base.outcome import Outcome, Verdict
from ekiden.delivery.remote import NO_CONNECTION, NO_RESOURCES
from ekiden.delivery.remote_hosts import HostMemory, Timeouts
from ekiden.delivery.remote_limits import ADDRESSES, must_verify, session_timeouts, source, wish_for_tls
from ekiden.delivery.remote_logins import Logins
from ekiden.delivery.remote_pool import Failure, Pool
from ekiden.delivery.remote_session import Session
from ekiden.routing.mx import Host
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.client import Client, Wish

if TYPE_CHECKING:
    from ekiden.wire.sasl_client import Credentials

_LOCAL_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Resolve = Callable[[bytes], Awaitable[Sequence[Host] | Outcome]]
Tell = Callable[[str, Timeouts], None]


class Opener:
    """``resolve`` gives a destination's hosts or the outcome without them; ``tell`` spreads news of timeouts."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        resolve: Resolve,
        memory: HostMemory,
        tell: Tell,
        logins: Logins,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._resolve = resolve
        self._memory = memory
        self._tell = tell
        self._logins = logins
        self._timeouts = session_timeouts(settings)

    async def open(self, pool: Pool, destination: bytes, passed: Collection[str] = ()) -> Session | Failure:
        """A session in state READY, at none of the addresses in ``passed``; or why there is none."""
        unknown = self._logins.why_not(destination)
        if unknown is not None:
            return Failure(unknown)
        hosts = await self._resolve(destination)
        if isinstance(hosts, Outcome):
            # A domain that takes no mail for certain fails each of its messages; only doubt is worth waiting for.
            return Failure(hosts, unreachable=hosts.verdict == Verdict.DEFERRED)
        failure = Failure(NO_CONNECTION)
        tried = len(passed)
        for host in hosts:
            if host.address in passed or self._memory.is_dead(host.address, time.time()):
                continue
            if tried >= ADDRESSES:
                break
            tried += 1
            result = await self._try_host(pool, destination, host)
            if isinstance(result, Session):
                return result
            if result is not None:
                failure = Failure(result)
        return failure

    async def _try_host(self, pool: Pool, destination: bytes, host: Host) -> Session | Outcome | None:
        """One address; without TLS in a second attempt if TLS fails and is not required."""
        credentials = self._logins.find(destination)
        wish = wish_for_tls(self._settings, says_password=credentials is not None)
        result = await self._try(pool, destination, host, wish, credentials)
        if isinstance(result, Session) and result.tls_failed and wish == "may":
            result = await self._try(pool, destination, host, "never", credentials)
        if isinstance(result, Session) and result.opened.result() is not None:
            return result.opened.result()
        return result

    async def _try(
        self, pool: Pool, destination: bytes, host: Host, wish: Wish, credentials: Credentials | None
    ) -> Session | Outcome | None:
        try:
            connection = await self._connect(host)
        except TimeoutError:
            self._note_timeout(host.address)
            return None
        except OSError as error:
            return NO_RESOURCES if error.errno in _LOCAL_TROUBLE else None
        if self._memory.answered(host.address):
            self._tell(host.address, Timeouts(0.0, 0))
        client = Client(host.address, self._settings.helohost, host.remote, wish, host.lmtp, credentials)
        name = host.name.decode("utf-8", "replace")
        session = Session(self._loop, pool, client, self._timeouts, destination, name, host.address)
        session.verifies = must_verify(self._settings, says_password=credentials is not None)
        try:
            if connection.family == socket.AF_UNIX:
                await self._loop.create_unix_connection(lambda: session, sock=connection)
            else:
                await self._loop.create_connection(lambda: session, sock=connection)
        except OSError:
            connection.close()
            return None
        pool.watch(session)
        await session.opened
        return session

    async def _connect(self, host: Host) -> socket.socket:
        """A connected socket. TimeoutError after the setting timeoutconnect, or the kernel's own limit."""
        is_path = host.address.startswith("/")
        family = socket.AF_UNIX if is_path else socket.AF_INET6 if ":" in host.address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            if not is_path:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if (own := source(self._settings, host.address)) is not None:
                    connection.bind(own)
            async with asyncio.timeout(self._settings.timeoutconnect):
                await self._loop.sock_connect(connection, host.address if is_path else (host.address, host.port))
        except BaseException:
            connection.close()
            raise
        return connection

    def _note_timeout(self, address: str) -> None:
        news = self._memory.timed_out(address, time.time())
        if news is not None:
            self._tell(address, news)

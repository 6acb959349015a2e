"""Accepting connections that begin with something else than their protocol: a PROXY header, a TLS handshake.

The header, in which a proxy names the real client, is taken off the bare socket, before a transport exists: what
follows it, be it SMTP or the beginning of a handshake, stays in the kernel for whoever reads next. A proxy whose
header is malformed or late is closed.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable

from ekiden.runtime.accepting import Accepting
from ekiden.runtime.handshake import HANDSHAKE_SECONDS
from ekiden.runtime.log import Log
from ekiden.settings.schema import Settings
from ekiden.wire.proxy import LONGEST, ProxyHeader, parse_header

HEADER_SECONDS = 10.0

_AT_ONCE = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def plain_address(name: object) -> str:
    """The IP address in a socket's peer name, an IPv4 one in its own form; ``unknown`` for a unix socket."""
    if not isinstance(name, tuple):
        return "unknown"
    address = str(name[0])
    if address.startswith("::ffff:") and "." in address:
        return address[7:]
    return address.partition("%")[0]


def parse_networks(words: Iterable[str]) -> list[Network]:
    """The setting ``proxyclients``: addresses and networks. Raises ValueError for what is neither."""
    return [ipaddress.ip_network(word, strict=False) for word in words]


class Porch:
    """Accepts on ``bound``. ``make(address)`` makes the protocol for a client of that address.

    It is one of ``accepting``'s acceptors.

    With ``tls`` its connection begins with a handshake, after the PROXY header. Who is still at either has not come
    in and is not counted there: here the same limits hold, for each process by itself.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bound: socket.socket,
        proxies: list[Network],
        make: Callable[[str], asyncio.Protocol],
        settings: Settings,
        log: Log,
        accepting: Accepting,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = loop
        self._tls = tls
        self._bound = bound
        self._proxies = proxies
        self._make = make
        self._settings = settings
        self._log = log
        self._accepting = accepting
        self._tasks: set[asyncio.Task[None]] = set()
        self._shaking: Counter[str] = Counter()
        bound.setblocking(False)

    @property
    def entering(self) -> int:
        """See ``Acceptor``."""
        return len(self._tasks)

    async def open(self) -> None:
        """See ``Acceptor``."""
        self._loop.add_reader(self._bound.fileno(), self._accept)

    def shut(self) -> None:
        """See ``Acceptor``."""
        self._loop.remove_reader(self._bound.fileno())

    def close(self) -> None:
        """See ``Acceptor``."""
        self.shut()
        self._bound.close()

    def _accept(self) -> None:
        for _ in range(min(_AT_ONCE, self._accepting.room)):
            try:
                connection, name = self._bound.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                # This one has left again.
                continue
            except OSError as error:
                # Whoever waits goes on waiting: without a pause this would be tried without end.
                self._accepting.short(error.errno or errno.EMFILE)
                return
            self._accepting.took()
            address = plain_address(name)
            if len(self._tasks) >= self._settings.connectionsmax:
                self._refuse(connection, address, "too many connections at once")
                continue
            task = self._loop.create_task(self._begin(connection, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        try:
            if self._is_proxy(address):
                async with asyncio.timeout(HEADER_SECONDS):
                    header = await self._read_header(connection)
                address = header.address or address
        except (OSError, ValueError) as error:
            # TimeoutError is an OSError.
            self._refuse(connection, address, str(error) or "no PROXY header came")
            return
        if self._shaking[address] >= self._settings.connectionsperclient:
            self._refuse(connection, address, "too many handshakes at once")
            return
        self._shaking[address] += 1
        try:
            await self._let_in(connection, address)
        except OSError as error:
            self._refuse(connection, address, f"TLS handshake failed: {error}")
        finally:
            self._shaking[address] -= 1
            if not self._shaking[address]:
                del self._shaking[address]

    async def _let_in(self, connection: socket.socket, address: str) -> None:
        await self._loop.connect_accepted_socket(
            lambda: self._make(address),
            connection,
            ssl=self._tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls is not None else None,
        )

    def _refuse(self, connection: socket.socket, address: str, reason: str) -> None:
        self._log.event("refuse", f"refuse: {address}: {reason}", client=address, reason=reason)
        connection.close()

    def _is_proxy(self, address: str) -> bool:
        if address == "unknown":
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._proxies)

    async def _read_header(self, connection: socket.socket) -> ProxyHeader:
        """Take exactly the header off the socket."""
        data = b""
        while True:
            await self._readable(connection)
            seen = connection.recv(LONGEST, socket.MSG_PEEK)
            if not seen:
                raise ValueError("connection closed in PROXY header")
            header = parse_header(data + seen)
            # Without the header's end, all of this is header.
            data += connection.recv(len(seen) if header is None else header.length - len(data))
            if header is not None:
                return header

    async def _readable(self, connection: socket.socket) -> None:
        arrived = asyncio.Event()
        self._loop.add_reader(connection.fileno(), arrived.set)
        try:
            await arrived.wait()
        finally:
            self._loop.remove_reader(connection.fileno())

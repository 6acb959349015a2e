"""Where a process accepts clients: at its listeners, some after a PROXY header or a TLS handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from ekiden.runtime.accepting import Accepting, ServerAcceptor
from ekiden.runtime.handshake import HANDSHAKE_SECONDS
from ekiden.runtime.log import Log
from ekiden.runtime.proxied import Network, Porch, parse_networks
from ekiden.settings.schema import Listener, Settings

BEGINNING_SECONDS = 5.0
"""How long somebody who was accepted may be at the beginning before it counts as a client."""

_WITH_TLS = frozenset({"smtps", "pop3s"})


class Listeners:
    """Those of a ``role`` process. ``tls``: None without a certificate; ``clients`` tells how many are here."""

    def __init__(
        self,
        role: str,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        log: Log,
        tls: ssl.SSLContext | None,
        clients: Callable[[], int],
    ) -> None:
        self.accepting = Accepting(role, loop, log, clients)
        self._loop = loop
        self._settings = settings
        self._log = log
        self._tls = tls
        self._proxies = self._parse_proxies()
        self._has_beginners = False

    @property
    def beginning_seconds(self) -> float:
        """For how long somebody may be here who was accepted and is not counted yet: who makes a handshake, or says
        whom it is a proxy for."""
        return BEGINNING_SECONDS if self._has_beginners else 0.0

    def tls_at(self, listener: Listener) -> ssl.SSLContext | None:
        """What a connection there begins with a handshake by, if it does."""
        return self._tls if listener.service in _WITH_TLS else None

    async def open(self, listener: Listener, bound: socket.socket, make: Callable[..., asyncio.Protocol]) -> None:
        """Accept on a bound socket, if that can be. ``make`` makes a client's protocol, some with its address."""
        tls = self.tls_at(listener)
        if tls is None and listener.service in _WITH_TLS:
            what = f"{listener.service} {listener.where}"
            self._log.alert(f"control/listen: {what} needs control/servercert.pem; it is closed")
            bound.close()
            return
        self._has_beginners |= tls is not None or bool(self._proxies)
        if (self._proxies or tls is not None) and not listener.path:
            settings, accepting = self._settings, self.accepting
            await accepting.add(Porch(self._loop, bound, self._proxies, make, settings, self._log, accepting, tls))
            return
        counted = self.accepting.counting(make)
        start = self._loop.create_unix_server if listener.path else self._loop.create_server
        backlog, timeout = self._settings.listenbacklog, HANDSHAKE_SECONDS if tls is not None else None
        await self.accepting.add(
            ServerAcceptor(
                bound,
                lambda sock: start(counted, sock=sock, backlog=backlog, ssl=tls, ssl_handshake_timeout=timeout),
            )
        )

    def _parse_proxies(self) -> list[Network]:
        try:
            return parse_networks(self._settings.proxyclients)
        except ValueError as error:
            self._log.alert(f"control/proxyclients: {error}; no PROXY header is taken")
            return []


def is_of_this_host(address: str) -> bool:
    """Whether that is a client's address on this host, or at a unix socket (``proxied.plain_address``)."""
    return address.startswith("127.") or address in ("::1", "unknown")

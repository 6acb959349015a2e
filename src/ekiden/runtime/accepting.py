"""Accepting clients as long as there are descriptors for them.

When accept(2) finds none left, libuv closes whoever waits, without a word to them or to us. So that a process stops
accepting before that: it takes half as many clients as it has descriptors for, because each may need another one (a
spool file, a connection to its session). Who comes meanwhile waits in the kernel's backlog, or is another process's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from ekiden.runtime.log import Log

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why accept(2) fails as long as nothing becomes free: whoever is to be accepted goes on waiting."""

QUIET_SECONDS = 60.0
"""One process does not tell of a shortage more often than that."""

_FEWEST = 4

_PAUSE_SECONDS = 1.0
"""Between two looks whether what was short is there again."""


class Acceptor(Protocol):
    """Accepts on one listening socket."""

    @property
    def entering(self) -> int:
        """How many it has accepted who are no clients yet."""

    async def open(self) -> None:
        """Accept; nothing happens if it does already. Raises OSError."""

    def shut(self) -> None:
        """Accept nobody until ``open``."""

    def close(self) -> None:
        """Accept no more, and close the socket."""


class Shortage:
    """Tells in the log that this process, which is a ``role`` process, cannot accept connections."""

    def __init__(self, role: str, log: Log) -> None:
        self._role = role
        self._log = log
        self._told = -QUIET_SECONDS

    def tell(self, number: int) -> None:
        """``number`` is the error's, one of ``SHORT``."""
        now = time.monotonic()
        if now - self._told < QUIET_SECONDS:
            return
        self._told = now
        remedy = ""
        if number == errno.EMFILE:
            limit = f"{descriptors()} for this process"
            remedy = f"; remedy: raise the limit of open files, {limit} (ulimit -n, LimitNOFILE in a unit of systemd)"
        elif number == errno.ENFILE:
            remedy = "; remedy: raise the machine's limit of open files (sysctl fs.file-max)"
        self._log.alert(
            f"{self._role}: process {os.getpid()} is unable to accept a connection: {os.strerror(number)}; "
            f"whoever comes waits{remedy}"
        )


class RunSocket:
    """A unix socket in ``run/`` at which a role is connected to; ``accepted`` is given each connection.

    Another process of a reload may be at the same socket, and be faster.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bound: socket.socket,
        shortage: Shortage,
        accepted: Callable[[socket.socket], None],
    ) -> None:
        self._loop = loop
        self._bound = bound
        self._shortage = shortage
        self._accepted = accepted
        self._closed = False
        bound.setblocking(False)
        self._hear()

    def close(self) -> None:
        """Accept nobody any more."""
        self._closed = True
        self._loop.remove_reader(self._bound.fileno())

    def _hear(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._bound.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _address = self._bound.accept()
        except OSError as error:
            if error.errno in SHORT:
                # The connection waits in the kernel, and would call for us without end.
                self._shortage.tell(error.errno)
                self._loop.remove_reader(self._bound.fileno())
                self._loop.call_later(_PAUSE_SECONDS, self._hear)
            return
        self._accepted(connection)


class Accepting:
    """All acceptors of a process; they are shut and opened together.

    ``clients`` tells how many are here. ``look`` is called about once a second. Acceptors say ``took`` for each whom
    they accept, and ``short`` when accept(2) fails.
    """

    def __init__(self, role: str, loop: asyncio.AbstractEventLoop, log: Log, clients: Callable[[], int]) -> None:
        self._loop = loop
        self._clients = clients
        self._shortage = Shortage(role, log)
        self._acceptors: list[Acceptor] = []
        self._shut = self._closed = False
        self._opening: asyncio.Task[None] | None = None
        """Held here, because the event loop alone lets a task go."""
        self._own = 0
        self.room = 1
        """How many may be accepted before the next look."""

    async def add(self, acceptor: Acceptor) -> None:
        """Accept there, too."""
        await acceptor.open()
        self._acceptors.append(acceptor)
        # Before there are clients there are no gaps.
        self._own = _lowest_free()

    def counting(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """``make`` for an event loop's server, which calls it for each who is accepted."""

        def counted() -> asyncio.Protocol:
            self.took()
            return make()

        return counted

    def took(self) -> None:
        """One more has been accepted."""
        self.room -= 1
        if self.room <= 0:
            self._loop.call_soon(self.look)

    def close(self) -> None:
        """Accept nobody any more."""
        self._closed = True
        for acceptor in self._acceptors:
            acceptor.close()

    def short(self, number: int) -> None:
        """Accept nobody until the next look finds descriptors; ``number`` is the error's."""
        self._shortage.tell(number)
        self._shut = True
        for acceptor in self._acceptors:
            acceptor.shut()

    def look(self) -> None:
        """See how many descriptors there are."""
        if self._closed:
            return
        here = self._clients() + sum(acceptor.entering for acceptor in self._acceptors)
        self.room = max(_FEWEST, (descriptors() - self._own) // 2) - here
        if self.room <= 0:
            self.short(errno.EMFILE)
        elif self._shut:
            self._shut = False
            self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            for acceptor in self._acceptors:
                if not (self._shut or self._closed):
                    await acceptor.open()
        except OSError as error:
            self.short(error.errno or errno.EMFILE)


class ServerAcceptor:
    """Accepts with the event loop's own server, which is faster than anything else and tells of no error.

    ``start(socket)`` makes one. It cannot be halted, so that each gets a duplicate of ``bound`` and is closed.
    """

    def __init__(self, bound: socket.socket, start: Callable[[socket.socket], Awaitable[asyncio.Server]]) -> None:
        self._bound = bound
        self._start = start
        self._server: asyncio.Server | None = None
        self.entering = 0

    async def open(self) -> None:
        """See ``Acceptor``."""
        if self._server is None:
            self._server = await self._start(self._bound.dup())

    def shut(self) -> None:
        """See ``Acceptor``."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """See ``Acceptor``."""
        self.shut()
        self._bound.close()


def descriptors() -> int:
    """How many descriptors this process may have."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _lowest_free() -> int:
    """The number of the next descriptor. Raises OSError."""
    probe = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    os.close(probe)
    return probe

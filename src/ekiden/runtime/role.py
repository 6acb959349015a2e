"""What every role process is given, and how its event loop runs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from ekiden.runtime.census import Census
from ekiden.runtime.fences import isolation
from ekiden.runtime.log import Log
from ekiden.settings.schema import Listener, Settings


@dataclass
class Context:
    """A role's surroundings: privileges are already given up, sockets bound, settings read."""

    home: Path
    settings: Settings
    log: Log
    listeners: Sequence[tuple[Listener, socket.socket]] = ()
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)
    """The queue role's bound unix sockets, by their names in ``run/``."""
    ready: Callable[[], None] = lambda: None
    """Called once when the role does its work."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when others have taken this process's place: take nothing new, and end when what is here has ended."""
    on_alarm: Callable[[], None] | None = None

    run: int = -1
    """A descriptor of the directory ``run/``, opened while every directory above it could be searched."""
    control: Path = field(init=False)
    """The home's directory ``control``, by a way that this process can go."""
    life: int = -1
    """A descriptor that becomes readable when the supervisor has died; -1 if there is none."""
    certificate: socket.socket | None = None
    """Where the supervisor sends the server's certificate and key (``runtime.certificate``); None: read the files.

    Its other direction ends when this process accepts nobody any more (``door_closed``)."""
    census: Census = field(default_factory=Census)
    """Counts the clients of all processes of a role."""
    reader: int = -1
    """The user who may look at the queue, besides root and this process's; -1 if there is none."""
    roster: socket.socket | None = None
    """Where the supervisor tells the queue which process is which role (``runtime.roster``); None: there are none."""
    queue: Path = Path("queue")
    """The queue role's directory, as that role sees it."""
    isolated: bool = False
    """Whether ``isolate`` means anything: isolation has begun."""

    def __post_init__(self) -> None:
        self.control = self.home / "control"

    def isolate(self, role: str, reads: Sequence[Path] = (), writes: Sequence[Path] = ()) -> None:
        """Give up for good what the role's profile in ``runtime.fences.isolation`` does not hold.

        Called once, when everything needed has been opened and nothing has been heard from outside yet.
        """
        if not self.isolated:
            return
        try:
            isolation.complete(role, reads, writes)
        except OSError as error:
            self.log.alert(f"{role}: process {os.getpid()} is not isolated: {error.strerror}")

    def door_closed(self) -> None:
        """Tell the supervisor that this process accepts nobody any more: a reload waits for that."""
        if self.certificate is not None:
            self.certificate.shutdown(socket.SHUT_WR)

    def connect(self, name: str) -> socket.socket:
        """A connection to the queue role's socket ``run/NAME``; OSError if it does not answer.

        Through the directory's descriptor: a unix socket's path may not exceed 107 octets, and a role without
        privileges may not be able to search the directories above the home.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Contents of 100 KiB leave in one piece. (The queue sees to its own end.)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        # Where more wait to be accepted than the kernel keeps, a connection would wait too.
        connection.setblocking(False)
        try:
            connection.connect(f"/proc/self/fd/{self.run}/{name}")
        except OSError:
            connection.close()
            raise
        connection.setblocking(True)
        return connection


SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1})
"""What the supervisor may send: blocked around its forks, until the role is ready to be told."""


def run(context: Context, main: Callable[[Context], Coroutine[Any, Any, None]], *, isolate: bool = False) -> None:
    """Run a role's ``main`` until it returns; TERM and INT ask it to finish, USR1 to give way.

    ALRM calls ``on_alarm``. ``isolate``: ``main`` will call ``context.isolate``.
    """

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, context.stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, context.draining.set)
        loop.set_exception_handler(partial(_fault, context.log))
        loop.add_signal_handler(signal.SIGALRM, lambda: context.on_alarm and context.on_alarm())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        context.log.attach(loop)
        if context.life >= 0:
            # Nobody would restart, reload or stop this process: end as in a crash, and let the next start recover.
            loop.add_reader(context.life, os._exit, 1)
        await main(context)
        context.log.flush()

    if isolate and context.settings.isolation == "on":
        context.isolated = begin_isolation(context.log)
    # What lives for a message dies with it, without cycles; looking for some often costs more than it finds.
    gc.set_threshold(20_000, 20, 50)
    uvloop.run(serve())


def _fault(log: Log, loop: asyncio.AbstractEventLoop, trouble: dict[str, Any]) -> None:
    """What a callback raised and nobody caught: told in the log.

    Without memory a callback of a connection between roles ends anywhere: what it was about to do is forgotten, and
    somebody would wait for ever. The process ends as in a crash, and the supervisor starts another.
    """
    error = trouble.get("exception")
    if error is None or isinstance(error, OSError):
        loop.default_exception_handler(trouble)
        return
    log.fault(f"process {os.getpid()}", error)
    if isinstance(error, MemoryError) and "transport" not in trouble:
        log.flush()
        os._exit(1)


def begin_isolation(log: Log) -> bool:
    """Whether isolation could begin; the log says why not."""
    try:
        isolation.begin()
    except OSError as error:
        log.alert(f"process {os.getpid()} is not isolated: {error.strerror}")
        return False
    return True

"""What every role process is given, and how its event loop runs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from ekiden.runtime.log import Log
from ekiden.settings.schema import Listener, Settings


@dataclass
class Context:
    """A role's surroundings: privileges are already given up, sockets bound, settings read."""

    home: Path
    settings: Settings
    log: Log
    listeners: Sequence[tuple[Listener, socket.socket]] = ()
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    on_alarm: Callable[[], None] | None = None

    def connect(self, name: str) -> socket.socket:
        """A connection to the queue role's socket ``run/NAME``; OSError if it does not answer.

        Through the directory's descriptor, because a unix socket's path may not exceed 107 octets.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self.home / "run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{name}")
        except OSError:
            connection.close()
            raise
        finally:
            os.close(directory)
        return connection


def run(context: Context, main: Callable[[Context], Coroutine[Any, Any, None]]) -> None:
    """Run a role's ``main`` until it returns; TERM and INT ask it to finish, ALRM calls ``on_alarm``."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, context.stopping.set)
        loop.add_signal_handler(signal.SIGALRM, lambda: context.on_alarm and context.on_alarm())
        context.log.attach(loop)
        await main(context)

    uvloop.run(serve())

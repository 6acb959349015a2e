"""What the queue role gives to those that serve its connections."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ekiden.queue.engine import Engine
from ekiden.queue.sqlite import SQLiteStore
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.settings.schema import Settings

AnyLink: TypeAlias = Link[Any]


class Shell(Protocol):
    """``roles.queue.QueueRole``, or what stands in its place."""

    log: Log
    settings: Settings
    store: SQLiteStore
    engine: Engine
    directory: Path
    loop: asyncio.AbstractEventLoop
    finished: bool
    """Whether the last turn is over."""

    def now(self) -> float:
        """The time of this turn, seconds of the epoch."""

    def wake(self, urgent: bool = True) -> None:
        """A turn is due when this round of events has been read; one that commits if that is urgent."""

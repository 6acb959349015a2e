"""The queue role: owns the store, schedules, bounces, logs. Everyone else talks to it in frames.

Whatever arrives on any connection during one turn of the event loop is handed to the engine, which commits it in one
transaction at the end of the turn; the sockets fill meanwhile, so that the group grows with the load.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ekiden.base.envelope import Envelope
from ekiden.queue.backoff import SET_BACK
from ekiden.queue.engine import Engine
from ekiden.queue.lane import Part
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import StoreDamaged
from ekiden.runtime.accepting import RunSocket, Shortage
from ekiden.runtime.administration import Administration
from ekiden.runtime.injection.link import peer
from ekiden.runtime.locks import hold_queue
from ekiden.runtime.log import Log
from ekiden.runtime.queue_control import Controllers
from ekiden.runtime.queue_delivery import Deliverers
from ekiden.runtime.queue_intake import Intakers
from ekiden.runtime.role import Context
from ekiden.runtime.roster import Roster
from ekiden.settings.schema import Settings

DAMAGED = 65
"""Exit code of a queue role that is not to be started again, because the store is damaged (sysexits' EX_DATAERR)."""

LOCK_WAIT = 5.0
"""Seconds for which the lock may be held by a program that injects while no queue role runs."""

RESULTS_WAIT = 0.01
"""Seconds that the results of deliveries wait for new messages to be committed with. Nobody waits for them; a crash
meanwhile delivers what they record once more."""


class Unusable(Exception):
    """The queue cannot be opened; the text says why and what to do."""


def lock(directory: Path) -> int:
    """The lock that keeps a second queue role off; its descriptor must stay open."""
    try:
        return hold_queue(directory, LOCK_WAIT)
    except BlockingIOError:
        raise Unusable(f"{directory / 'lock'}: another ekiden already runs this queue") from None


async def main(context: Context) -> None:
    """Run until told to stop and what is in progress has ended."""
    try:
        await _main(context)
    except StoreDamaged as error:
        end(context.log, error)


async def _main(context: Context) -> None:
    directory = context.queue
    held = lock(directory)
    store = SQLiteStore(directory, context.settings.checkpointpages, thorough=True)
    role = QueueRole(context, store)
    context.isolate("queue", writes=[directory])
    await role.serve()
    store.close()
    context.log.exiting()
    os.close(held)


def end(log: Log, error: BaseException) -> NoReturn:
    """End as in a crash: nothing in memory can be relied on, and nobody is answered.

    The supervisor starts another, which recovers from what is on disk, unless that is what is damaged.
    """
    damaged = isinstance(error, StoreDamaged)
    log.alert(f"queue: {error if damaged else f'{type(error).__name__}: {error}; starting again from the disk'}")
    log.flush()
    os._exit(DAMAGED if damaged else 1)


class QueueRole:
    """The engine, its connections and its place in the event loop."""

    def __init__(self, context: Context, store: SQLiteStore) -> None:
        self.log = context.log
        self.settings = context.settings
        self.store = store
        self.directory = context.queue
        self.loop = asyncio.get_running_loop()
        self.finished = False
        self._context = context
        self._roster = Roster(context.roster)
        self._turning = False
        self._commit_due = False
        self._committing = False
        self._clock = 0.0
        self._deliverers = {channel: Deliverers(self, channel) for channel in ("remote", "local")}
        self._intakers = Intakers(self)
        self.engine = Engine(context.settings, store, context.log, self)
        self._administration = Administration(
            self.engine,
            store,
            self.wake,
            lambda: self._deliverers["remote"].known_hosts(),
            lambda: self._deliverers["remote"].forget_hosts(),
            self.reconfigure,
        )
        self._controllers = Controllers(self.loop, self._administration, context.reader)

    def now(self) -> float:
        """The time of this turn, seconds of the epoch."""
        if not self._clock:
            self._clock = time.time()
        return self._clock

    def wake(self, urgent: bool = True) -> None:
        """A turn is due when this round of events has been read; one that commits if that is urgent."""
        self._commit_due = self._commit_due or urgent
        if not self._turning:
            self._turning = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self.finished:
            return
        if self._commit_due or self.engine.urgent:
            self._commit_due = False
            more = self.engine.turn(self.now())
        else:
            more = self.engine.dispatch(self.now())
        self._clock = 0.0
        if self.engine.scheduler.changes and not self._committing:
            self._committing = True
            self.loop.call_later(1.0 if self.engine.stuck else RESULTS_WAIT, self._commit_results)
        if more:
            self.wake(urgent=False)

    def _commit_results(self) -> None:
        self._committing = False
        if self.engine.scheduler.changes:
            self.wake()

    def reconfigure(self, settings: Settings) -> None:
        """Take over changed settings."""
        self.engine.configure(settings)
        self.log.configure(settings.logformat)
        self.settings = settings
        self._intakers.limits.configure(settings)
        self.wake()

    def channels(self) -> list[str]:
        """The channels whose delivery processes are there (``queue.engine.Transport``)."""
        return [channel for channel, deliverers in self._deliverers.items() if deliverers.present]

    def send(self, part: Part, envelope: Envelope) -> bool:
        """Hand an attempt to its channel (``queue.engine.Transport``)."""
        return self._deliverers[part.lane.channel].send(part, envelope)

    async def serve(self) -> None:
        """Recover, listen, and work until told to stop."""
        found = self.store.recover()
        if found.spool_files_removed or found.unfinished_destinations or found.messages:
            self.log.event(
                "recovered",
                f"status: recovered queue: {found.messages} messages, {found.unfinished_destinations} destinations"
                f" were being worked on, {found.spool_files_removed} leftover files removed",
            )
        self.loop.set_exception_handler(self._give_up)
        self._status()
        self._tell_of_new(*found.new)
        self.engine.recover(self.now())
        self._context.on_alarm = self._alarm
        sockets = self._context.sockets
        opened = {
            "intake": self._intakers.open,
            "inject": self._intakers.open_guest,
            "control": self._controllers.open,
            **{channel: deliverers.open for channel, deliverers in self._deliverers.items()},
        }
        shortage = Shortage("queue", self.log)
        for name, open_one in opened.items():
            if name in sockets:
                RunSocket(self.loop, sockets[name], shortage, partial(self._accept, name, open_one))
        self._context.ready()
        if self.engine.is_misdated(self.now()):
            self._catch_up("mail waits for a time that the clock has been set back from")
        self.wake()
        ticking = self.loop.create_task(self._tick())
        await self._context.stopping.wait()
        ticking.cancel()
        await self._drain()

    def _tell_of_new(self, after: int, until: int) -> None:
        following = self.engine.tell_of_new(after, until)
        if following:
            self.loop.call_soon(self._tell_of_new, following, until)

    def _give_up(self, _loop: object, trouble: dict[str, Any]) -> None:
        end(self.log, trouble.get("exception") or RuntimeError(trouble.get("message")))

    def _status(self) -> None:
        limit = self.engine.scheduler.limit
        self.log.status(0, limit["local"], 0, limit["remote"])

    def _accept(self, name: str, opened: Callable[[socket.socket], None], connection: socket.socket) -> None:
        pid, uid = peer(connection)
        if not self._roster.admits(pid, name):
            self.log.alert(f"queue: process {pid} of uid {uid} may not connect to run/{name}")
            connection.close()
            return
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, 4 * 1024 * 1024)
        opened(connection)

    def _alarm(self, after: int = 0) -> None:
        """Run the queue now, a bounded number of messages per turn."""
        following = self._administration.flush(after).next
        if following:
            self.loop.call_soon(self._alarm, following)

    async def _tick(self) -> None:
        ahead = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(1)
            before, ahead = ahead, time.time() - time.monotonic()
            if ahead < before - SET_BACK:
                self._catch_up(f"the clock was set back by {before - ahead:.0f} seconds")
            if self.engine.tick(time.time()):
                self.wake()

    def _catch_up(self, why: str) -> None:
        """What was deferred by another clock would wait for a time that means nothing: try it now."""
        self.log.alert(f"queue: {why}; running the queue")
        self._alarm()

    async def _drain(self) -> None:
        """Start nothing new, wait for what is in progress, record it."""
        self.engine.stopping = True
        limit = self.settings.shutdownseconds
        deadline = self.loop.time() + limit
        while any(self.engine.scheduler.in_flight.values()) and self.loop.time() < deadline:
            await asyncio.sleep(0.02)
        self._commit_due = True
        self._turn()
        for deliverers in self._deliverers.values():
            deliverers.keep()
        self.finished = True

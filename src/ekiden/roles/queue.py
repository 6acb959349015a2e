"""The queue role: owns the store, schedules, bounces, logs. Everyone else talks to it in frames.

Whatever arrives on any connection during one turn of the event loop is handed to the engine, which commits it in one
transaction at the end of the turn; the sockets fill meanwhile, so that the group grows with the load.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ekiden.base.envelope import Envelope, Origin
from ekiden.base.outcome import Outcome, Verdict
from ekiden.base.reply import Reply
from ekiden.queue.engine import Engine
from ekiden.queue.lane import Part
from ekiden.queue.sqlite import SQLiteStore
from ekiden.runtime.administration import Administration, ControlRequest
from ekiden.runtime.frames import (
    Accepted,
    Attempt,
    DeliveryAnswer,
    Draining,
    HostState,
    Inject,
    IntakeRequest,
    Rejected,
    SpoolGrant,
    SpoolRelease,
    SpoolRequest,
)
from ekiden.runtime.inject_limits import Limits
from ekiden.runtime.inject_link import InjectLink, peer_uid
from ekiden.runtime.link import Link
from ekiden.runtime.role import Context
from ekiden.settings.schema import Settings

GRANTS = 5000
"""Spool files that one connection may have at once."""

RECIPIENTS = 100_000
"""Recipients of one message that anybody may inject."""

_TOKEN = re.compile(rb"[!-~]{0,1000}")

LOCK_WAIT = 5.0
"""Seconds for which the lock may be held by a program that injects while no queue role runs."""

RESULTS_WAIT = 0.01
"""Seconds that the results of deliveries wait for new messages to be committed with. Nobody waits for them; a crash
meanwhile delivers what they record once more."""

AnyLink: TypeAlias = Link[Any]


class Unusable(Exception):
    """The queue cannot be opened; the text says why and what to do."""


def lock(directory: Path) -> int:
    """The lock that keeps a second queue role off; its descriptor must stay open."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            os.close(descriptor)
            raise Unusable(f"{directory / 'lock'}: another ekiden already runs this queue") from None
        return descriptor


async def main(context: Context) -> None:
    """Run until told to stop and what is in progress has ended."""
    directory = context.queue
    held = lock(directory)
    store = SQLiteStore(directory, context.settings.checkpointpages)
    role = QueueRole(context, store)
    context.isolate("queue", writes=[directory])
    await role.serve()
    store.close()
    context.log.exiting()
    os.close(held)


class Intakers:
    """The side towards those who inject: one connection each."""

    def __init__(self, role: QueueRole) -> None:
        self._role = role
        self._spools = 0
        self.limits = Limits(role.loop, role.settings)

    def open_guest(self, connection: socket.socket) -> None:
        """A new connection to ``run/inject``; the origin of what comes from it is what the kernel says."""
        granted: set[str] = set()
        link = InjectLink(
            self._role.loop,
            connection,
            self.limits,
            granted,
            lambda frame, _descriptor: self._take(link, granted, link.uid, frame),
            lambda _reason: self._closed(granted),
        )
        link.admit()

    def open(self, connection: socket.socket) -> None:
        """A new connection of a role's."""
        link: Link[IntakeRequest]
        granted: set[str] = set()
        link = Link(
            self._role.loop,
            connection,
            msgspec.msgpack.Decoder(IntakeRequest),
            lambda frame, _descriptor: self._take(link, granted, None, frame),
            lambda _reason: self._closed(granted),
        )

    def _closed(self, granted: set[str]) -> None:
        for name in granted:
            self._role.store.unlink_spool(name)

    def _take(self, link: AnyLink, granted: set[str], uid: int | None, frame: IntakeRequest) -> None:
        if isinstance(frame, Inject):
            self._inject(link, granted, uid, frame)
        elif isinstance(frame, SpoolRequest):
            self._grant(link, granted, frame.token)
        elif isinstance(frame, SpoolRelease) and frame.spool in granted:
            granted.discard(frame.spool)
            self._role.store.unlink_spool(frame.spool)

    def _inject(self, link: AnyLink, granted: set[str], uid: int | None, frame: Inject) -> None:
        origin = frame.origin
        if uid is not None:
            # What else it says of where it comes from is its own word.
            origin = Origin("local", origin.pid, uid)
        if frame.spool:
            if frame.spool not in granted:
                link.send(Rejected(frame.token, 451, "4.3.0", "spool file was not granted"))
                return
            granted.discard(frame.spool)
        token, role = frame.token, self._role
        size = role.store.spool_size(frame.spool) if frame.spool else len(frame.content)

        def answer(result: int | Reply) -> None:
            if isinstance(result, int):
                link.send(Accepted(token, result))
                return
            if frame.spool:
                role.store.unlink_spool(frame.spool)
            link.send(Rejected(token, result.code, result.status, result.text))

        if uid is not None and not is_plausible(frame.envelope):
            answer(Reply(554, "5.5.4", "the envelope says what no envelope may"))
            return
        if role.engine.stopping:
            answer(Reply(451, "4.3.2", "mail queue is shutting down"))
            return
        role.engine.accept(
            frame.envelope, origin, frame.content, frame.spool, size, role.now(), answer, frame.checksum
        )
        role.wake()

    def _grant(self, link: AnyLink, granted: set[str], token: int) -> None:
        if len(granted) >= GRANTS or (isinstance(link, InjectLink) and not link.may_have_file):
            link.send(Rejected(token, 452, "4.3.1", "too many spool files at once"))
            return
        self._spools += 1
        name = f"{time.time_ns():x}-{os.getpid():x}-{self._spools:x}"
        try:
            descriptor = self._role.store.create_spool(name)
        except OSError as error:
            link.send(Rejected(token, 452, "4.3.1", f"unable to make a spool file: {error.strerror}"))
            return
        granted.add(name)
        link.send(SpoolGrant(token, name), descriptor)


class Deliverers:
    """The side towards the delivery processes of one channel."""

    def __init__(self, role: QueueRole, channel: str) -> None:
        self._role = role
        self._channel = channel
        self._links: dict[AnyLink, dict[int, Part]] = {}
        self._draining: dict[AnyLink, dict[int, Part]] = {}
        self._jobs = 0
        self.hosts: dict[str, HostState] = {}

    def open(self, connection: socket.socket) -> None:
        link: Link[DeliveryAnswer]
        link = Link(
            self._role.loop,
            connection,
            msgspec.msgpack.Decoder(DeliveryAnswer),
            lambda frame, _descriptor: self._take(link, frame),
            lambda reason: self._closed(link, reason),
        )
        self._links[link] = {}
        for state in self.hosts.values():
            link.send(state)
        self._role.wake()

    @property
    def present(self) -> bool:
        return bool(self._links)

    def send(self, part: Part, envelope: Envelope) -> bool:
        """Hand an attempt to the least busy process; False if the content cannot be read."""
        link, jobs = min(self._links.items(), key=_busyness)
        message = part.message
        descriptor = None
        content = b""
        if message.spool:
            try:
                descriptor = self._role.store.open_spool(message.spool)
            except OSError as error:
                self._role.log.alert(f"msg {message.id}: unable to open spool/{message.spool}: {error.strerror}")
                return False
        else:
            stored = message.content if message.content is not None else self._role.store.content(message.id)
            if stored is None:
                return False
            content = stored
        self._jobs = job = self._jobs + 1
        jobs[job] = part
        key = b"local" if part.lane.channel == "local" else part.lane.key
        link.send(
            Attempt(job, message.id, key, envelope, content, message.size, message.birth, descriptor is not None),
            descriptor,
        )
        return True

    def _take(self, link: AnyLink, frame: DeliveryAnswer) -> None:
        if isinstance(frame, HostState):
            self._remember(link, frame)
            return
        if isinstance(frame, Draining):
            self._drain(link)
            return
        part = self._jobs_of(link).pop(frame.job, None)
        if part is None:
            link.close(f"report for unknown job {frame.job}")
            return
        outcomes = frame.outcomes
        if len(outcomes) != len(part.recipients):
            outcomes = _all(part, "Unable to understand the delivery report. (#4.3.0)\n")
        self._role.engine.report(part, outcomes, frame.unreachable, self._role.now())
        self._role.wake(urgent=False)
        if link in self._draining:
            self._end_if_drained(link)

    def _jobs_of(self, link: AnyLink) -> dict[int, Part]:
        jobs = self._links.get(link)
        return self._draining[link] if jobs is None else jobs

    def _drain(self, link: AnyLink) -> None:
        """Send nothing more to a process that is to end; others, or the next one, take over."""
        self._draining[link] = self._links.pop(link)
        self._end_if_drained(link)

    def _end_if_drained(self, link: AnyLink) -> None:
        if not self._draining[link]:
            link.close("drained")

    def _remember(self, link: AnyLink, state: HostState) -> None:
        if state.since:
            self.hosts[state.address] = state
        else:
            self.hosts.pop(state.address, None)
        for other in self._links:
            if other is not link:
                other.send(state)

    def forget_hosts(self) -> None:
        """Let every address be tried again (qmail-tcpok)."""
        for state in self.hosts.values():
            for link in self._links:
                link.send(HostState(state.address, 0.0, 0))
        self.hosts.clear()

    def _closed(self, link: AnyLink, reason: str) -> None:
        """The process is gone: what it had in hand may or may not have been delivered, and is tried again."""
        jobs = self._draining.pop(link, None)
        if jobs is None:
            jobs = self._links.pop(link)
        if jobs:
            self._role.log.warning(f"{self._channel} process ended with {len(jobs)} deliveries: {reason}")
        for part in jobs.values():
            self._role.engine.lost(part, self._role.now())
        if not self._role.finished:
            self._role.wake()


class QueueRole:
    """The engine, its connections and its place in the event loop."""

    def __init__(self, context: Context, store: SQLiteStore) -> None:
        self.log = context.log
        self.settings = context.settings
        self.store = store
        self.loop = asyncio.get_running_loop()
        self.finished = False
        self._context = context
        self._turning = False
        self._commit_due = False
        self._committing = False
        self._clock = 0.0
        self._deliverers = {channel: Deliverers(self, channel) for channel in ("remote", "local")}
        self._intakers = Intakers(self)
        self.engine = Engine(context.settings, store, context.log, self)
        remote = self._deliverers["remote"]
        self._administration = Administration(
            self.engine, store, self.wake, lambda: remote.hosts, remote.forget_hosts, self.reconfigure
        )

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
        self.engine.recover(self.now())
        self._status()
        self._context.on_alarm = self._alarm
        sockets = self._context.sockets
        self._listen(sockets["intake"], self._intakers.open)
        self._listen(sockets["inject"], self._intakers.open_guest)
        for channel, deliverers in self._deliverers.items():
            if channel in sockets:
                self._listen(sockets[channel], deliverers.open)
        self._listen(sockets["control"], self._open_control)
        self._context.ready()
        self.wake()
        ticking = self.loop.create_task(self._tick())
        await self._context.stopping.wait()
        ticking.cancel()
        await self._drain()

    def _give_up(self, _loop: object, trouble: dict[str, Any]) -> None:
        """After a fault, above all a failed write, nothing in memory can be relied on: end as in a crash.

        Nobody is answered; the supervisor starts another, which recovers from what is on disk.
        """
        error = trouble.get("exception")
        self.log.alert(
            f"queue: {type(error).__name__}: {error or trouble.get('message')}; starting again from the disk"
        )
        self.log.flush()
        os._exit(1)

    def _status(self) -> None:
        limit = self.engine.scheduler.limit
        self.log.status(0, limit["local"], 0, limit["remote"])

    def _listen(self, listening: socket.socket, opened: Callable[[socket.socket], None]) -> None:
        listening.setblocking(False)
        self.loop.add_reader(listening.fileno(), partial(self._accept, listening, opened))

    def _accept(self, listening: socket.socket, opened: Callable[[socket.socket], None]) -> None:
        try:
            connection, _address = listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                # The connection waits in the kernel, and would call for us without end.
                self.log.alert(f"queue: unable to accept a connection: {error.strerror}")
                self.loop.remove_reader(listening.fileno())
                self.loop.call_later(1.0, self._listen, listening, opened)
            return
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, 4 * 1024 * 1024)
        opened(connection)

    def _open_control(self, connection: socket.socket) -> None:
        link: Link[ControlRequest]
        uid = peer_uid(connection)
        link = Link(
            self.loop,
            connection,
            msgspec.msgpack.Decoder(ControlRequest),
            lambda frame, _descriptor: link.send(self._administration.answer(frame, uid)),
            lambda _reason: None,
        )

    def _alarm(self, after: int = 0) -> None:
        """Run the queue now, a bounded number of messages per turn."""
        following = self._administration.flush(after).next
        if following:
            self.loop.call_soon(self._alarm, following)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            if self.engine.tick(time.time()):
                self.wake()

    async def _drain(self) -> None:
        """Start nothing new, wait for what is in progress, record it."""
        self.engine.stopping = True
        limit = self._context.settings.shutdownseconds
        deadline = self.loop.time() + limit
        while any(self.engine.scheduler.in_flight.values()) and self.loop.time() < deadline:
            await asyncio.sleep(0.02)
        self._commit_due = True
        self._turn()
        self.finished = True


def is_plausible(envelope: Envelope) -> bool:
    """Whether an envelope from an untrusted process may be passed on: what SMTP's parameters can say, and no more."""
    return (
        len(envelope.recipients) <= RECIPIENTS
        and envelope.ret in (b"", b"FULL", b"HDRS")
        and 0 <= envelope.body <= 2
        and _TOKEN.fullmatch(envelope.envid) is not None
        and all(0 <= one.notify <= 15 and _TOKEN.fullmatch(one.orcpt) for one in envelope.recipients)
    )


def _busyness(item: tuple[AnyLink, dict[int, Part]]) -> int:
    return len(item[1])


def _all(part: Part, text: str) -> list[Outcome]:
    return [Outcome(Verdict.DEFERRED, "4.3.0", text)] * len(part.recipients)

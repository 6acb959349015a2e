"""The queue role's side towards the delivery processes: attempts go out, reports come in."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import msgspec

from ekiden.base.envelope import Envelope
from ekiden.base.outcome import MANGLED
from ekiden.delivery.remote_hosts import CAPACITY
from ekiden.queue.lane import Part
from ekiden.runtime.frames import Attempt, DeliveryAnswer, Draining, HostState
from ekiden.runtime.host_table import HostTable
from ekiden.runtime.link import Link
from ekiden.runtime.queue_shell import AnyLink, Shell

ADDRESS_CHARACTERS = 108
"""Of an IP address or a unix socket's path."""

_KEEP_SECONDS = 1.0
"""Between two writings of what is known of addresses."""

NEWS_BACKLOG = 1024 * 1024
"""Octets that a delivery process may have left unread before it is told no more news of addresses."""


class Deliverers:
    """The side towards the delivery processes of one channel."""

    def __init__(self, role: Shell, channel: str) -> None:
        self._role = role
        self._channel = channel
        self._links: dict[AnyLink, dict[int, Part]] = {}
        self._draining: dict[AnyLink, dict[int, Part]] = {}
        self._jobs = 0
        self._keeping = False
        self.table = HostTable(role.directory) if channel == "remote" else None
        self._hosts: dict[str, HostState] = self.table.load() if self.table is not None else {}

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
        for state in self._hosts.values():
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
            stored = self._role.engine.content(message)
            if stored is None:
                return False
            content = stored
        self._jobs = job = self._jobs + 1
        jobs[job] = part
        key = b"local" if part.lane.channel == "local" else part.lane.key
        attempt = Attempt(
            job,
            message.id,
            key,
            envelope,
            content,
            message.size,
            message.birth,
            descriptor is not None,
            message.meta.checksum,
        )
        link.send(attempt, descriptor)
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
            outcomes = [MANGLED] * len(part.recipients)
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
        """Keep the news and pass it on; bounded, whatever a process says and however little another one reads."""
        if len(state.address) > ADDRESS_CHARACTERS:
            link.close("news of what is no address")
            return
        self._hosts.pop(state.address, None)
        if state.since:
            if len(self._hosts) >= CAPACITY:
                del self._hosts[next(iter(self._hosts))]
            self._hosts[state.address] = state
        self._keep_soon()
        for other in self._links:
            if other is not link and other.backlog < NEWS_BACKLOG:
                other.send(state)

    def known_hosts(self) -> Mapping[str, HostState]:
        """Addresses that timed out (qmail-tcpto)."""
        return self._hosts

    def forget_hosts(self) -> None:
        """Let every address be tried again (qmail-tcpok)."""
        for state in self._hosts.values():
            for link in self._links:
                link.send(HostState(state.address, 0.0, 0))
        self._hosts.clear()
        self.keep()

    def _keep_soon(self) -> None:
        """Write the table down, but not for every word of a process that talks without end."""
        if not self._keeping:
            self._keeping = True
            self._role.loop.call_later(_KEEP_SECONDS, self.keep)

    def keep(self) -> None:
        """Write down which addresses timed out."""
        self._keeping = False
        if self.table is not None:
            self.table.keep(self._hosts.values())

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


def _busyness(item: tuple[AnyLink, dict[int, Part]]) -> int:
    return len(item[1])

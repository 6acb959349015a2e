"""The role that delivers outward: takes attempts from the queue, answers with an outcome per recipient.

Runs as user qmailr, touches no file but the descriptors it is given, and trusts nobody it talks to. If the queue
goes away in mid-delivery, the transactions at hand are finished and their reports discarded: the queue will send
those messages again, which may make duplicates, as after any crash between delivery and its record.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec

from ekiden.base.outcome import Outcome
from ekiden.delivery.remote import Job
from ekiden.delivery.remote_hosts import Timeouts, memory_for
from ekiden.delivery.remote_logins import Logins
from ekiden.delivery.remote_open import Opener
from ekiden.delivery.remote_pool import Pool
from ekiden.runtime.frames import Attempt, DeliveryRequest, Draining, HostState, Report
from ekiden.runtime.link import END_OF_FILE, Link
from ekiden.runtime.resolver import Resolver
from ekiden.runtime.role import Context
from ekiden.runtime.tls_client import TlsClient

RESOLVERS = Path("/etc/resolv.conf")
SWEEP_SECONDS = 1.0
FIRST_RETRY = 0.1
LAST_RETRY = 5.0
FAREWELL_SECONDS = 1.0
"""How long idle servers may take to answer QUIT."""


async def main(context: Context) -> None:
    """Serve the queue until asked to stop."""
    role = Remote(context, asyncio.get_running_loop())
    # Where DHCP names the servers later, the file is a new one, for which only its directory can stand.
    context.isolate("remote", reads=[] if role.knows_servers else [RESOLVERS, RESOLVERS.parent])
    await role.run()


class Remote:
    """The role's state: the link to the queue, the connections, what is known of addresses."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        settings = context.settings
        self._context = context
        self._loop = loop
        self._link: Link[DeliveryRequest] | None = None
        self._link_closed = asyncio.Event()
        self._quiet = asyncio.Event()
        self._decoder = msgspec.msgpack.Decoder(DeliveryRequest)
        self._memory = memory_for(settings)
        tls = TlsClient(settings, context.home)
        resolver = Resolver(settings)
        self.knows_servers = resolver.prepare()
        """Whether the resolver can do without reading files."""
        logins = Logins(settings)
        if logins.problem:
            context.log.alert(f"remote: {logins.problem}; mail for smart hosts waits")
        opener = Opener(loop, settings, resolver.hosts, self._memory, self._tell, logins)
        self._pool = Pool(
            loop,
            opener.open,
            lambda session: tls.connection(session.host, session.address, session.verifies),
            self._report,
            self._complain,
            settings.reuseseconds,
            settings.reusemessages,
        )
        self._pool.on_quiet = self._quiet.set

    async def run(self) -> None:
        """Connect to the queue, again and again, until asked to stop; then finish what is at hand."""
        stopping = self._loop.create_task(self._context.stopping.wait())
        self._sweep()
        delay = FIRST_RETRY
        ready = False
        while not stopping.done():
            if self._connect():
                delay = FIRST_RETRY
                if not ready:
                    ready = True
                    self._context.ready()
                closed = self._loop.create_task(self._link_closed.wait())
                await asyncio.wait((stopping, closed), return_when=asyncio.FIRST_COMPLETED)
                closed.cancel()
            else:
                delay = min(delay * 2, LAST_RETRY)
            if not stopping.done():
                await asyncio.wait((stopping,), timeout=delay)
        await self._finish()

    async def _finish(self) -> None:
        """Have the queue send nothing more, report what is at hand, and end when the queue closes the link.

        After that nobody hears of what comes of a transaction: waiting on would only deliver what is sent again.
        """
        if self._link is not None:
            self._link.send(Draining())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._link_closed.wait(), self._context.settings.shutdownseconds)
        self._pool.stop()
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                while self._pool.is_busy:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            self._pool.abort()
            # The reports leave in the loop's next turn.
            await asyncio.sleep(0.01)

    def _connect(self) -> bool:
        try:
            connection = self._context.connect("remote")
        except OSError:
            return False
        self._link_closed.clear()
        self._link = Link(self._loop, connection, self._decoder, self._take, self._closed)
        return True

    def _closed(self, reason: str) -> None:
        self._link = None
        self._link_closed.set()
        # Who ended the queue says so: its own last line, or the supervisor's about its death.
        if reason != END_OF_FILE:
            self._context.log.event("queue lost", f"remote: lost the queue: {reason}")

    def _take(self, frame: DeliveryRequest, descriptor: int | None) -> None:
        if type(frame) is Attempt:
            content = None if descriptor is not None else frame.content
            whence = descriptor, frame.checksum
            job = Job(self._link, frame.job, frame.destination, frame.envelope, content, frame.size, *whence)
            self._pool.submit(job)
        else:
            assert isinstance(frame, HostState)
            if descriptor is not None:
                os.close(descriptor)
            self._memory.learn(frame.address, Timeouts(frame.since, frame.count))

    def _report(self, job: Job, outcomes: list[Outcome], unreachable: bool) -> None:
        # A link that was lost meanwhile takes and drops it.
        job.source.send(Report(job.token, outcomes, unreachable))  # type: ignore[attr-defined]

    def _tell(self, address: str, timeouts: Timeouts) -> None:
        if self._link is not None:
            self._link.send(HostState(address, timeouts.since, timeouts.count))

    def _complain(self, text: str) -> None:
        self._context.log.event("trouble", f"remote: {text}")

    def _sweep(self) -> None:
        self._pool.sweep(self._loop.time())
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

"""Connections by destination: a message goes out at once on an idle one, else on the first that becomes free.

For every message that waits, one connection is being opened; how many messages are under way at a destination is the
scheduler's to limit. Where a connection fails while others are there or being opened, no more are opened for a while,
and whoever waits gets one of those: many servers take few from one client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from ekiden.base.outcome import Outcome
from ekiden.delivery.remote import NO_CONNECTION, NO_RESOURCES, Job, Tls
from ekiden.delivery.remote_session import Session
from ekiden.wire.smtp.client import State

CROWDED_SECONDS = 60.0
"""How long no more connections are opened to a destination than it takes."""


@dataclass(frozen=True, slots=True)
class Failure:
    """No connection: ``outcome`` for the message; ``unreachable`` if no next hop could be talked to."""

    outcome: Outcome
    unreachable: bool = True


@dataclass(slots=True)
class _Destination:
    idle: list[Session] = field(default_factory=list)
    waiting: deque[Job] = field(default_factory=deque)
    opening: int = 0
    sessions: int = 0
    failed: int = 0
    """Connections that failed since one succeeded."""
    most: int = 0
    """Connections that were there or being opened when one failed; this holds up to ``until``."""
    until: float = 0.0


Open = Callable[["Pool", bytes, Collection[str]], Awaitable[Session | Failure]]
Deliver = Callable[[Job, list[Outcome], bool], None]


class Pool:
    """``open_session`` makes a connection to a destination, passing over some addresses, ``make_tls`` its TLS;
    ``report`` takes a job's outcomes and whether no next hop was reachable; ``complain`` takes a line for the log
    about what must not happen. An idle connection is kept for ``reuseseconds``, and carries ``reusemessages``
    messages at most.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        open_session: Open,
        make_tls: Callable[[Session], Tls],
        report: Deliver,
        complain: Callable[[str], None],
        reuseseconds: int,
        reusemessages: int,
    ) -> None:
        self._loop = loop
        self._open_session = open_session
        self._make_tls = make_tls
        self._report = report
        self._complain = complain
        self._reusemessages = reusemessages if reuseseconds else 1
        self._destinations: dict[bytes, _Destination] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[Session] = set()
        self._active = 0
        self._stopping = False
        self._aborting = False
        self.on_quiet: Callable[[], None] = lambda: None
        """Called whenever ``is_busy`` may have become false."""

    @property
    def is_busy(self) -> bool:
        """Whether a job is unreported or a connection not closed."""
        return bool(self._active or self._sessions)

    def submit(self, job: Job) -> None:
        """Deliver; the report comes through ``report``."""
        self._active += 1
        destination = self._destination(job.destination)
        if destination.idle:
            destination.idle.pop().start(job)
            return
        destination.waiting.append(job)
        self._open_as_needed(job.destination, destination)

    def sweep(self, now: float) -> None:
        """End what has passed its deadline; ``now`` by the loop's clock. To be called every second or so."""
        for session in [session for session in self._sessions if session.deadline <= now]:
            self._stop_using(session)
            session.expire()

    def stop(self) -> None:
        """Keep no connection from now on; what is under way goes on."""
        self._stopping = True
        for destination in self._destinations.values():
            while destination.idle:
                destination.idle.pop().quit()

    def abort(self) -> None:
        """End everything now; what is unfinished is reported as Deferred."""
        self._aborting = True
        for task in self._tasks:
            task.cancel()
        for session in list(self._sessions):
            session.abort("Stopped here.")
        for destination in list(self._destinations.values()):
            while destination.waiting:
                self._fail(destination.waiting.popleft(), Failure(NO_RESOURCES))

    def watch(self, session: Session) -> None:
        """Take a new connection under the sweeping timer."""
        self._sessions.add(session)

    # What sessions call

    def make_tls(self, session: Session) -> Tls:
        """TLS for a session whose server has agreed to it."""
        return self._make_tls(session)

    def session_done(self, session: Session, job: Job, outcomes: list[Outcome]) -> None:
        """A message is through with; the session takes the next one, or waits for it."""
        session.kept = True
        self._finish(job, outcomes, False)
        self._employ(session)

    def session_lost(self, session: Session, job: Job | None, outcome: Outcome) -> None:
        """The session ended by itself, and nothing was decided about the job.

        A connection that was kept may die just when it is used: then another gets the job. Otherwise the next hop's
        other addresses do (RFC 5321 section 5.1).
        """
        self._stop_using(session)
        if job is None:
            session.failure = outcome
        elif self._aborting:
            self._finish(job, [outcome] * len(job.envelope.recipients), False)
        else:
            destination = self._destination(job.destination)
            if session.kept:
                destination.waiting.appendleft(job)
                self._open_as_needed(job.destination, destination)
            else:
                job.passed = {**job.passed, session.address: outcome}
                destination.sessions += 1
                self._begin_opening(job.destination, destination, job)

    def session_closed(self, session: Session) -> None:
        """The connection is gone; nothing more will be heard of it."""
        self._stop_using(session)
        self._sessions.discard(session)
        destination = self._destinations.get(session.destination)
        if destination is not None and session.employed:
            destination.sessions -= 1
            self._open_as_needed(session.destination, destination)
            self._forget_if_unused(session.destination, destination)
        if not self._sessions:
            self.on_quiet()

    # Within

    def _destination(self, key: bytes) -> _Destination:
        """What is known of the destination, though its last connection may be gone."""
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = _Destination()
        return destination

    def _employ(self, session: Session) -> None:
        destination = self._destinations[session.destination]
        if session.client.state is not State.READY:
            return
        if session.used >= self._reusemessages:
            session.quit()
        elif destination.waiting:
            session.start(destination.waiting.popleft())
        elif self._stopping:
            session.quit()
        else:
            session.kept = True
            destination.idle.append(session)

    def _stop_using(self, session: Session) -> None:
        destination = self._destinations.get(session.destination)
        if destination is not None and session in destination.idle:
            destination.idle.remove(session)

    def _open_as_needed(self, key: bytes, destination: _Destination) -> None:
        crowded = destination.until > self._loop.time()
        while destination.opening < len(destination.waiting):
            if crowded and destination.sessions + destination.opening >= destination.most:
                break
            destination.opening += 1
            self._begin_opening(key, destination)

    def _begin_opening(self, key: bytes, destination: _Destination, job: Job | None = None) -> None:
        task = self._loop.create_task(self._open(key, destination, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, key: bytes, destination: _Destination, job: Job | None) -> None:
        """Open a connection for whoever has waited longest; with ``job``, for this one at addresses still untried."""
        result: Session | Failure = Failure(NO_RESOURCES)
        try:
            result = await self._open_session(self, key, job.passed if job is not None else ())
        except Exception as error:
            # A fault of ours or of the system must cost this attempt only.
            self._complain(f"connecting to {key.decode('utf-8', 'replace')}: {type(error).__name__}: {error}")
        finally:
            if job is None:
                destination.opening -= 1
            else:
                destination.sessions -= 1
            self._settle(key, destination, result, job)

    def _settle(self, key: bytes, destination: _Destination, result: Session | Failure, job: Job | None) -> None:
        if isinstance(result, Session):
            if result.client.state is State.READY:
                destination.sessions += 1
                destination.failed = 0
                result.employed = True
                if job is None:
                    self._employ(result)
                else:
                    result.start(job)
                return
            # It went away between its last word and now; trying again and again would never end.
            result = Failure(result.failure)
        if job is not None:
            self._fail(job, result)
            self._open_as_needed(key, destination)
        elif destination.sessions or destination.opening:
            self._crowd(destination)
        else:
            self._give_up(key, destination, result)
        self._forget_if_unused(key, destination)

    def _give_up(self, key: bytes, destination: _Destination, failure: Failure) -> None:
        """The last of several connections has failed: so many messages have no hope left, the others try anew."""
        failed, destination.failed, destination.until = destination.failed + 1, 0, 0.0
        for _ in range(min(failed, len(destination.waiting))):
            self._fail(destination.waiting.popleft(), failure)
        self._open_as_needed(key, destination)

    def _crowd(self, destination: _Destination) -> None:
        """A connection has failed, but others are there or may come: whoever waits gets one of those."""
        destination.failed += 1
        destination.most = destination.sessions + destination.opening
        destination.until = self._loop.time() + CROWDED_SECONDS
        while destination.idle and destination.waiting:
            destination.idle.pop().start(destination.waiting.popleft())

    def _fail(self, job: Job, failure: Failure) -> None:
        """Report that there is no connection, or what the last address said that the message came near to."""
        outcome = failure.outcome
        if job.passed and outcome is NO_CONNECTION:
            *_, outcome = job.passed.values()
        self._finish(job, [outcome] * len(job.envelope.recipients), failure.unreachable and not job.passed)

    def _finish(self, job: Job, outcomes: list[Outcome], unreachable: bool) -> None:
        job.close()
        self._report(job, outcomes, unreachable)
        self._active -= 1
        if not self._active:
            self.on_quiet()

    def _forget_if_unused(self, key: bytes, destination: _Destination) -> None:
        if not (destination.sessions or destination.opening or destination.waiting):
            self._destinations.pop(key, None)

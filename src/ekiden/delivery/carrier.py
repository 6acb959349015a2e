"""Many deliveries of one user at once: what they want next is done together where that saves waiting for the disk.

Lives in a process that is the user already. Each turn carries the deliveries at hand as far as they go: all their
Maildir files become durable together, an mbox file is locked once for all who write to it, forwards go out together,
programs run beside everything else. The process's event loop is used for programs' output and for time only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ekiden.delivery import mailboxes
from ekiden.delivery.letter import Letter
from ekiden.delivery.local import Forward, Run, Step, ToMaildir, ToMbox, deliver, resume
from ekiden.delivery.local_limits import NO_LIMITS, LocalLimits
from ekiden.delivery.maildir import clean
from ekiden.delivery.mbox import LOCK_PAUSE, LOCK_SECONDS
from ekiden.delivery.report import Report, Trouble, unable
from ekiden.delivery.running import run

if TYPE_CHECKING:
    from ekiden.delivery.local import Admit, Delivery

Answer = int | Trouble
Inject = Callable[[Forward, Letter, Callable[[Answer], None]], None]
"""Queues the letter's content after its Delivered-To field; calls back with ``qp`` or Trouble, at once or later."""

_CLEANED = 6 * 3600.0
"""Seconds after which a Maildir's tmp/ is looked through again."""


class Job:
    """One delivery under way."""

    __slots__ = ("_delivery", "_done", "letter", "lock_until", "step")

    def __init__(self, letter: Letter, done: Callable[[Report], None], admit: Admit | None) -> None:
        self.letter = letter
        self.step: Step | Report | None = None
        self.lock_until = 0.0
        """On the loop's clock; 0 while no lock is waited for."""
        self._delivery: Delivery = deliver(letter, admit)
        self._done = done

    def resume(self, answer: Answer | None) -> bool:
        """Go on to the next step; False, and reported, if that was the end."""
        self.step = resume(self._delivery, self.letter, answer)
        self.lock_until = 0.0
        if isinstance(self.step, Report):
            self.letter.content.close()
            self._done(self.step)
            return False
        return True


class Carrier:
    """Carries letters to their ends. ``surroundings``: what programs get beside qmail-command(8)'s variables.

    ``admit``: see delivery.local.deliver.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inject: Inject,
        surroundings: Mapping[bytes, bytes],
        limits: LocalLimits = NO_LIMITS,
        admit: Admit | None = None,
    ) -> None:
        self._loop = loop
        self._inject = inject
        self._surroundings = dict(surroundings)
        self._limits = limits
        self._admit = admit
        self._ready: list[Job] = []
        self._waiting: list[Job] = []
        self._cleaned: dict[bytes, float] = {}
        self._programs: dict[Job, Callable[[], None]] = {}
        self.busy = 0
        """Deliveries that have not ended."""

    def take(self, letter: Letter, done: Callable[[Report], None]) -> None:
        """Begin a delivery, which ``turn`` carries on; ``done`` is called once."""

        def ended(report: Report) -> None:
            self.busy -= 1
            done(report)

        self.busy += 1
        self._advance(Job(letter, ended, self._admit), None)

    def turn(self) -> None:
        """Carry on whatever is ready until nothing is."""
        while self._ready:
            maildir: list[tuple[Job, bytes]] = []
            mbox: dict[bytes, list[Job]] = {}
            ready, self._ready = self._ready, []
            for job in ready:
                step = job.step
                if isinstance(step, ToMaildir):
                    maildir.append((job, step.path))
                elif isinstance(step, ToMbox):
                    mbox.setdefault(step.path, []).append(job)
                elif isinstance(step, Run):
                    self._run(job, step)
                elif isinstance(step, Forward):
                    self._forward(job, step)
            if maildir:
                self._to_maildirs(maildir)
            for path, jobs in mbox.items():
                self._to_mbox(path, jobs)

    def end_programs(self) -> None:
        """Kill the programs that run now."""
        for end in list(self._programs.values()):
            end()

    def _advance(self, job: Job, answer: Answer | None) -> None:
        if job.resume(answer):
            self._ready.append(job)

    def _answer(self, job: Job) -> Callable[[Answer], None]:
        """For what ends later: goes on with the job in a turn of its own."""

        def answer(value: Answer) -> None:
            self._programs.pop(job, None)
            self._advance(job, value)
            self._loop.call_soon(self.turn)

        return answer

    def _to_maildirs(self, entries: Sequence[tuple[Job, bytes]]) -> None:
        troubles = mailboxes.to_maildirs([(path, job.letter) for job, path in entries], self._limits)
        for (job, path), trouble in zip(entries, troubles, strict=True):
            self._clean(path)
            self._advance(job, trouble or 0)

    def _clean(self, path: bytes) -> None:
        now = self._loop.time()
        if self._cleaned.get(path, 0.0) <= now:
            self._cleaned[path] = now + _CLEANED
            clean(path, time.time())

    def _to_mbox(self, path: bytes, jobs: Sequence[Job]) -> None:
        troubles = mailboxes.to_mbox(path, [job.letter for job in jobs])
        if troubles is None:
            for job in jobs:
                self._wait_for_lock(path, job)
            return
        for job, trouble in zip(jobs, troubles, strict=True):
            self._advance(job, trouble or 0)

    def _wait_for_lock(self, path: bytes, job: Job) -> None:
        now = self._loop.time()
        job.lock_until = job.lock_until or now + LOCK_SECONDS
        if job.lock_until <= now:
            self._advance(job, mailboxes.locked(path))
            return
        if not self._waiting:
            self._loop.call_later(LOCK_PAUSE, self._retry)
        self._waiting.append(job)

    def _retry(self) -> None:
        self._ready += self._waiting
        self._waiting.clear()
        self.turn()

    def _run(self, job: Job, step: Run) -> None:
        environment, seconds = self._surroundings | step.environment, self._limits.program_seconds
        try:
            answer = self._answer(job)
            self._programs[job] = run(self._loop, step.command, job.letter, environment, answer, seconds)
        except (Trouble, OSError) as error:
            self._advance(job, error if isinstance(error, Trouble) else unable("run a program", error))

    def _forward(self, job: Job, step: Forward) -> None:
        try:
            self._inject(step, job.letter, self._answer(job))
        except OSError as error:
            self._advance(job, unable("read message", error))

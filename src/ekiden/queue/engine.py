"""The queue's life of a message: taken in, split into parts, attempted, recorded, reported, removed.

One turn (``turn``) commits everything that arrived since the last one in a single transaction, answers those who
wait for it, and starts what may be started. There is no thread, no timer and no socket here: the role calls ``turn``
once per turn of its event loop, so that the group grows with the load.
"""

from __future__ import annotations

from contextlib import suppress

from ekiden.queue.administering import Administering
from ekiden.queue.backoff import SET_BACK, longest_wait
from ekiden.queue.intake import FULL, Answer
from ekiden.queue.lane import Message, Part
from ekiden.queue.store import Changes, RowDamaged, StoreFull
from ekiden.settings.schema import Settings

DAY = 86_400
TRIM_EVERY = 60.0
"""Seconds between looks at what the ledger may forget."""
_PAGE = 500
TRIMMED = 10_000
"""Entries of the ledger that are forgotten at once."""


class Engine(Administering):
    """The queue without its sockets. ``StoreFailed`` goes through to the caller, who must end.

    Its layers, from the lowest: ``Intake``, ``Notices``, ``Attempts``, ``Administering``; the turns are here.
    """

    stuck = False
    """Whether results could not be recorded for want of room."""

    _trim_at = 0.0
    """When the ledger is looked at next."""

    def configure(self, settings: Settings) -> None:
        super().configure(settings)
        self._trim_at = 0.0

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for a commit. Results alone may wait a moment for company."""
        return bool(self._intake)

    def turn(self, now: float) -> bool:
        """Commit, answer, start. Whether there is more to do at once."""
        if not self.commit():
            return False
        return self.dispatch(now)

    def dispatch(self, now: float) -> bool:
        """Start what may be started. Whether there is more to do at once."""
        if self.stopping or self.stuck:
            return False
        more = self.scheduler.refill(now)
        for part in self.scheduler.pick(now, self._transport.channels()):
            self._start(part, now)
        return more

    def tick(self, now: float) -> bool:
        """Once a second; whether a turn is due."""
        self.store.note_reach()
        if self.stuck:
            return True
        self._trim_ledger(now)
        return self.scheduler.tick(now) or not self.stopping

    def _trim_ledger(self, now: float) -> None:
        """Forget what is older than the setting says; at once more if there is much of it."""
        if self._trim_at - TRIM_EVERY <= now < self._trim_at:
            return
        try:
            self.store.keep_ledger(self._keeps_ledger, now)
            went = self.store.trim_ledger(now - self._settings.ledgerdays * DAY, TRIMMED, now)
        except StoreFull:
            went = 0
        self._trim_at = now if went >= TRIMMED else now + TRIM_EVERY

    def commit(self) -> bool:
        """Make durable what has come together, and answer who waits for it.

        False if what was delivered could not be recorded: then nothing new is started until it can.
        """
        changes = self.scheduler.changes
        if not changes and not self._intake:
            return True
        intake, self._intake = self._intake, Changes()
        accepted, self._accepted = self._accepted, []
        try:
            self.store.apply(changes, intake if intake else None)
        except StoreFull as error:
            self._refuse(accepted, error)
            try:
                # What was delivered must be recorded even if nothing new fits.
                self.store.apply(changes)
            except StoreFull:
                self.stuck = True
                return False
            accepted = []
        self.stuck = False
        self.scheduler.committed()
        self._after_commit(accepted)
        return True

    def _refuse(self, accepted: list[tuple[Message, list[Part], Answer]], error: Exception) -> None:
        if accepted:
            self._journal.alert(f"unable to queue {len(accepted)} messages: {error}")
        for _message, _parts, answer in accepted:
            answer(FULL)

    def _after_commit(self, accepted: list[tuple[Message, list[Part], Answer]]) -> None:
        for name in self._unlink:
            self.store.unlink_spool(name)
        self._unlink.clear()
        for message, parts, answer in accepted:
            answer(message.id)
            self._admit(message, parts)
        reported, self._reported = self._reported, []
        for message, parts in reported:
            self._admit(message, parts)

    def _admit(self, message: Message, parts: list[Part]) -> None:
        self._tell(message.id, message.size, message.sender, message.meta.origin)
        self.scheduler.admit(parts)

    def is_misdated(self, now: float) -> bool:
        """Whether mail waits for a time that no back-off asks for: it was deferred by a clock that was ahead."""
        last = self.store.last_due()
        wait = longest_wait(self._settings.queuelifetime, max(self._skip.values()))
        return last is not None and last > now + wait + SET_BACK

    def tell_of_new(self, after: int, until: int) -> int:
        """Log messages that were put into the store while nobody wrote the log, a bounded number of them.

        Returns the id to go on after (0: that was all).
        """
        damaged: list[RowDamaged] = []
        rows = self.store.messages(after, _PAGE, damaged)
        for row in rows:
            if row.id <= until:
                self._tell(row.id, row.size, row.sender, row.meta.origin)
        for fault in damaged:
            self._aside.add(fault)
        last = max([*(row.id for row in rows), *(fault.message for fault in damaged)], default=0)
        return last if len(rows) + len(damaged) == _PAGE and last < until else 0

    def recover(self, now: float) -> None:
        """At start: what ended without a notice before a crash is told now, what has no way to go gets one, and what
        is due is fetched, so that it does not wait for the first tick.
        """
        with suppress(StoreFull):
            self.store.keep_ledger(self._keeps_ledger, now)
        for number in self.store.orphans():
            self._journal.warning(f"msg {number}: a destination was missing; its recipients are routed anew")
            try:
                self.requeue(number, now)
            except RowDamaged as fault:
                self._aside.add(fault)
        for number in self.store.unnotified():
            try:
                self._notify_late(number, now)
            except RowDamaged as fault:
                self._aside.add(fault)
        self.scheduler.tick(now)

    def _notify_late(self, number: int, now: float) -> None:
        """Tell of recipients who ended before a crash."""
        row = self.store.message(number)
        if row is not None:
            message = self.scheduler.from_store(row)
            self._notify(message, now, stored=True)
            if not message.left:
                self._remove(message)

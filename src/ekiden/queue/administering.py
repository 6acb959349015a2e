"""What an administrator does to a message: route it anew, return it, remove it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ekiden.base.envelope import Notify, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.queue import ledger
from ekiden.queue.attempts import Attempts
from ekiden.queue.lane import Message, Part
from ekiden.queue.ledger import WHOM, End, Entry, whom
from ekiden.queue.rewriting import as_given
from ekiden.queue.scheduler import channel_of
from ekiden.queue.sealing import encode_meta, encode_recipients
from ekiden.queue.store import Ended, PartRow


class Administering(Attempts):
    """Adds the administrator's hand to ``Attempts``. ``runtime.administration`` calls it.

    ``RowDamaged`` from what must know a message's recipients; nothing has happened then.
    """

    def attribute(self, user: str, action: str, number: int) -> None:
        """Have the log say who did what to a message: ``hold``, ``release``, ``flush``, ``requeue``.

        ``bounce`` and ``delete`` say so themselves, before what comes of them.
        """
        self._journal.administrator(user, action, number)

    def requeue(self, number: int, now: float) -> bool:
        """Route a message's recipients anew and try at once; False if it is not there or just being attempted."""
        row = self.store.message(number)
        old = self.store.parts(number)
        if row is None or not old or self.scheduler.is_attempting(number):
            return False
        message = self.scheduler.from_store(row)
        parts = self._split(message, [recipient for part in old for recipient in self._as_given(part)])
        for part in parts:
            part.number = self.store.new_part_number()
        # What may find the device full is done: from here on all happens, or nothing has.
        self.scheduler.withdraw(number)
        changes = self.scheduler.changes
        changes.finished.extend((number, part.part) for part in old)
        message.left = len(parts)
        for part in parts:
            due = None if row.held else now
            encoded = encode_recipients(part.recipients, number, part.lane.id)
            changes.parts.append((number, part.number, part.lane.id, due, encoded))
            part.lane.more = True
        self._rename(message, whom(_addresses(old)), whom(_addresses(parts)))
        self.scheduler.wake_all()
        return True

    def _rename(self, message: Message, before: int, after: int) -> None:
        """Have the message's row say who was accepted by their new addresses."""
        meta = message.meta
        if meta.whom and before != after:
            meta = msgspec.structs.replace(meta, whom=(meta.whom - before + after) % WHOM)
            self.scheduler.changes.renamed.append((encode_meta(meta, message.id, message.sender), message.id))

    def _as_given(self, part: PartRow) -> list[Recipient]:
        key = self.store.destination_key(part.destination)
        if key is not None and channel_of(key) == "remote":
            return part.recipients
        return [as_given(recipient, self._router) for recipient in part.recipients]

    def give_up(self, number: int, now: float, administrator: str = "") -> bool:
        """Bounce what is left of a message; False if it is not there or just being attempted."""
        row = self.store.message(number)
        if row is None or self.scheduler.is_attempting(number):
            return False
        message = self.scheduler.from_store(row)
        outcome = Outcome(Verdict.FAILED, "5.7.0", "The administrator returned this message.\n")
        parts = self.store.parts(number)
        for part in parts:
            for recipient in part.recipients:
                if recipient.wants(Notify.FAILURE):
                    reason = msgspec.structs.replace(outcome, text=part.last + outcome.text)
                    message.ended.append(Ended(recipient, reason))
        message.left = 0
        self.attribute(administrator, "bounce", number)
        if message.ended:
            # Before anything else has happened: it may find the device full.
            self._notify(message, now, stored=False)
        self._take_out(message, parts, "failed", f"returned by {administrator}", now)
        return True

    def delete(self, number: int, now: float, administrator: str = "") -> bool:
        """Remove a message without telling anybody; False if it is not there or just being attempted."""
        row = self.store.message(number)
        if row is None or self.scheduler.is_attempting(number):
            return False
        message = self.scheduler.from_store(row)
        parts = self.store.parts(number)
        self.attribute(administrator, "delete", number)
        self._take_out(message, parts, "deleted", f"deleted by {administrator}", now)
        return True

    def _take_out(self, message: Message, parts: list[PartRow], end: str, report: str, now: float) -> None:
        """Remove a message as an administrator wants it, and put that into the ledger."""
        self.scheduler.withdraw(message.id)
        self.scheduler.changes.finished.extend((message.id, part.part) for part in parts)
        self._remove(message)
        if self._has_entries(message):
            failed = end == "failed"
            recipients = [one for part in parts for one in part.recipients]
            ends = [End(one.address, end, "", report, "", failed and one.wants(Notify.FAILURE)) for one in recipients]
            self._write_entry(message, ledger.ADMINISTRATOR, 0, now, Entry(ends, ledger.beginning(message)))


def _addresses(parts: Iterable[Part | PartRow]) -> list[bytes]:
    return [one.address for part in parts for one in part.recipients]

"""A part's way to its destination: started, reported, its outcomes recorded."""

from __future__ import annotations

import msgspec

from ekiden.base.envelope import Envelope, Notify, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.base.sender import verp
from ekiden.queue import ledger
from ekiden.queue.backoff import SET_BACK, expired, next_attempt
from ekiden.queue.lane import Message, Part
from ekiden.queue.ledger import End, Entry
from ekiden.queue.notices import Notices
from ekiden.queue.sealing import encode_ended, encode_recipients
from ekiden.queue.store import Ended

GIVEN_UP = "I'm not going to try again; this message has been in the queue too long.\n"
NOTICE_AT = 100
"""Ended recipients of one message for which a notice does not wait for the others."""


class Attempts(Notices):
    """Adds attempts to ``Notices``."""

    _deliveries = 0
    """The log's number of the last delivery that was started."""

    def _start(self, part: Part, now: float) -> None:
        lane, message = part.lane, part.message
        self._number(part)
        if lane.paused_until > now:
            self.report(part, [_paused(lane.last)] * len(part.recipients), False, now, attempted=False)
            return
        meta = message.meta
        sender = verp(message.sender, part.recipients[0].address)
        envelope = Envelope(sender, part.recipients, meta.body, meta.smtputf8, meta.ret, meta.envid)
        self._status()
        if not self._transport.send(part, envelope):
            outcome = Outcome(Verdict.DEFERRED, "4.3.0", "Unable to read the message's content. (#4.3.0)\n")
            self.report(part, [outcome] * len(part.recipients), False, now, attempted=False)

    def _number(self, part: Part) -> None:
        self._numbers[part] = number = self._deliveries + 1
        self._deliveries += len(part.recipients)
        for recipient in part.recipients:
            self._journal.starting(number, part.message.id, part.lane.channel, recipient.address)
            number += 1

    def _status(self) -> None:
        busy, limit = self.scheduler.busy, self.scheduler.limit
        self._journal.status(busy["local"], limit["local"], busy["remote"], limit["remote"], self.stopping)

    def lost(self, part: Part, now: float) -> None:
        """The process that had the part in hand is gone: it may or may not have been delivered; try again soon."""
        text = "The delivery process ended without a report; it may have delivered. (#4.3.0)\n"
        outcomes = [Outcome(Verdict.DEFERRED, "4.3.0", text)] * len(part.recipients)
        self.report(part, outcomes, False, now, attempted=False, soon=True)

    def report(
        self,
        part: Part,
        outcomes: list[Outcome],
        unreachable: bool,
        now: float,
        attempted: bool = True,
        soon: bool = False,
    ) -> None:
        """An attempt has ended, one outcome per recipient.

        ``attempted``: the destination was really talked to. ``soon``: a failure was ours, not the destination's; so
        is one that comes of too many at once.
        """
        message = part.message
        self.scheduler.finish(part, now)
        reason = outcomes[0].text
        if expired(message.birth, now, self._settings.queuelifetime):
            outcomes = [_given_up(outcome) for outcome in outcomes]
        number = self._numbers.pop(part)
        for outcome in outcomes:
            self._journal.result(number, outcome)
            number += 1
        if unreachable:
            part.lane.unreachable(now, reason)
            soon = part.lane.paused_until <= now
        elif attempted:
            part.lane.reached(now, self._settings.concurrencydestination)
        self._status()
        if not message.withdrawn:
            self._record(part, outcomes, now, soon)

    def _record(self, part: Part, outcomes: list[Outcome], now: float, soon: bool) -> None:
        message = part.message
        if message.birth > now + SET_BACK:
            # It came while the clock was ahead. From now on it ages as any other.
            message.birth = now
            self.scheduler.changes.reborn.append((now, message.id))
        told = len(message.ended)
        ends: list[End] = []
        remaining = self._sort(part, outcomes, now, ends)
        changes = self.scheduler.changes
        if remaining:
            due = next_attempt(message.birth, now, self._skip[part.lane.channel])
            if soon or _were_too_many(outcomes):
                due = min(due, now + 2.0 ** min(part.attempts, 12))
            last = next(outcome.text for outcome in outcomes if outcome.verdict == Verdict.DEFERRED)
            attempts, encoded = part.attempts + 1, encode_recipients(remaining, message.id, part.lane.id)
            changes.deferred.append((message.id, part.number, part.lane.id, due, attempts, encoded, last))
            self.scheduler.later(part, due)
        else:
            if part.stored:
                changes.finished.append((message.id, part.number))
            message.left -= 1
        if ends and self._has_entries(message):
            entry = Entry(ends, None if message.left else ledger.beginning(message))
            self._write_entry(message, part.number, part.attempts, now, entry)
        if message.ended and (not message.at_hand or len(message.ended) >= NOTICE_AT):
            self._notify(message, now, stored=told > 0)
        elif len(message.ended) > told:
            changes.ended.append((encode_ended(message.ended, message.id), message.id))
        if not message.left:
            self._remove(message)

    def _sort(self, part: Part, outcomes: list[Outcome], now: float, ends: list[End]) -> list[Recipient]:
        """Put down who came to an end and whose is to be told; return those to be tried again."""
        message = part.message
        remaining = []
        for recipient, outcome in zip(part.recipients, outcomes, strict=True):
            if outcome.verdict == Verdict.DEFERRED:
                remaining.append(self._delayed(message, recipient, outcome, now))
                continue
            ends.append(ledger.ending(recipient, outcome, part.lane.channel == "local"))
            if outcome.verdict == Verdict.FAILED:
                is_news = recipient.wants(Notify.FAILURE)
            else:
                is_news = recipient.wants(Notify.SUCCESS) and not outcome.relayed_dsn
            if is_news:
                message.ended.append(Ended(recipient, outcome))
        return remaining

    def _delayed(self, message: Message, recipient: Recipient, outcome: Outcome, now: float) -> Recipient:
        """Tell of a delay once, if that was asked for; the recipient with a mark afterwards."""
        wait = self._settings.delaynotice
        if recipient.notify & (Notify.DELAY | Notify.TOLD) != Notify.DELAY or not wait or now < message.birth + wait:
            return recipient
        message.ended.append(Ended(recipient, outcome))
        return msgspec.structs.replace(recipient, notify=recipient.notify | Notify.TOLD)


def _were_too_many(outcomes: list[Outcome]) -> bool:
    """Whether the next hop took some and wants the others in a transaction of their own (RFC 5321 4.5.3.1.10)."""
    return any(outcome.verdict == Verdict.DELIVERED for outcome in outcomes) and any(
        outcome.reply.startswith("452") for outcome in outcomes
    )


def _given_up(outcome: Outcome) -> Outcome:
    """What becomes of an attempt at a message that has been here too long: no other will follow it."""
    if outcome.verdict != Verdict.DEFERRED:
        return outcome
    return msgspec.structs.replace(outcome, verdict=Verdict.FAILED, status="5.4.7", text=outcome.text + GIVEN_UP)


def _paused(reason: str) -> Outcome:
    return Outcome(Verdict.DEFERRED, "4.4.1", reason or "The destination could not be reached.\n")

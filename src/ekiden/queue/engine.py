"""The queue's life of a message: taken in, split into parts, attempted, recorded, reported, removed.

One turn (``turn``) commits everything that arrived since the last one in a single transaction, answers those who
wait for it, and starts what may be started. There is no thread, no timer and no socket here: the role calls ``turn``
once per turn of its event loop, so that the group grows with the load.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol
from zlib import crc32

import msgspec

from ekiden.base.envelope import Envelope, Notify, Origin, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.base.reply import Reply
from ekiden.queue import ledger
from ekiden.queue.backoff import expired, next_attempt
from ekiden.queue.bounce import compose
from ekiden.queue.dsn import Original
from ekiden.queue.lane import Message, Part
from ekiden.queue.ledger import End, wants_failure
from ekiden.queue.scheduler import Scheduler
from ekiden.queue.store import Changes, Ended, Meta, PartRow, Store, StoreFull
from ekiden.routing.route import Router
from ekiden.settings.schema import Settings

Answer = Callable[[int | Reply], None]
"""Told the message's id once it is durable, or why it was not queued."""

FULL = Reply(452, "4.3.1", "mail queue is full, try again later")
GIVEN_UP = "I'm not going to try again; this message has been in the queue too long.\n"
NOTICE_AT = 100
"""Ended recipients of one message for which a notice does not wait for the others."""


DAY = 86_400
TRIM_EVERY = 60.0
"""Seconds between looks at what the ledger may forget."""
TRIMMED = 10_000
"""Entries of the ledger that are forgotten at once."""


class Journal(Protocol):
    """What the engine logs: qmail-send's lines."""

    def status(self, local: int, concurrencylocal: int, remote: int, concurrencyremote: int) -> None: ...
    def new_message(self, message: int) -> None: ...
    def info(self, message: int, size: int, sender: bytes, qp: int, uid: int) -> None: ...
    def starting(self, delivery: int, message: int, channel: str, recipient: bytes) -> None: ...
    def result(self, delivery: int, outcome: Outcome) -> None: ...
    def bounce(self, message: int, notice: int) -> None: ...
    def triple_bounce(self, message: int) -> None: ...
    def end(self, message: int) -> None: ...
    def warning(self, text: str) -> None: ...
    def alert(self, text: str) -> None: ...


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """A message of another queue: the key that names it for ever, when it came in there (seconds of the epoch), and
    whether it is not to be attempted until it is released."""

    key: bytes
    birth: float
    held: bool = False


class Transport(Protocol):
    """Who carries out attempts."""

    def channels(self) -> list[str]:
        """The channels that somebody is there for."""

    def send(self, part: Part, envelope: Envelope) -> bool:
        """Start an attempt with the envelope of just this attempt; False if its content cannot be had."""


class Engine:
    """The queue without its sockets. ``StoreFailed`` goes through to the caller, who must end."""

    def __init__(self, settings: Settings, store: Store, journal: Journal, transport: Transport) -> None:
        self.scheduler = Scheduler(settings, store)
        self.store = store
        self.stopping = False
        self._journal = journal
        self._transport = transport
        self._encode = msgspec.msgpack.Encoder().encode
        self._intake = Changes()
        self._accepted: list[tuple[Message, list[Part], Answer | None]] = []
        self._reported: list[tuple[Message, list[Part]]] = []
        self._unlink: list[str] = []
        self._deliveries = 0
        self._stuck = False
        self._trim_at = 0.0
        self._numbers: dict[Part, int] = {}
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take over changed settings for what comes; nothing in progress is disturbed."""
        self._settings = settings
        self._router = Router(settings)
        self._keeps_ledger = settings.ledgerdays > 0
        self._skip = {"local": settings.backofflocal, "remote": settings.backoffremote}
        self.scheduler.configure(settings)

    # Intake

    def accept(
        self,
        envelope: Envelope,
        origin: Origin,
        content: bytes,
        spool: str,
        size: int,
        now: float,
        answer: Answer,
        checksum: int = 0,
    ) -> None:
        """Queue a message with the next turn; ``answer`` is called when that is done or has failed.

        ``checksum`` is CRC-32 of a spool file's content, if whoever wrote it says so.
        """
        try:
            if not envelope.recipients:
                self._vanish(envelope.sender, origin, spool, size, answer)
                return
            message, parts = self._new(envelope, origin, content, spool, size, now, self._intake, checksum)
        except StoreFull:
            answer(FULL)
            return
        self._accepted.append((message, parts, answer))

    def take_over(
        self,
        foreign: Foreign,
        envelope: Envelope,
        origin: Origin,
        content: bytes,
        spool: str,
        size: int,
        answer: Answer,
        checksum: int = 0,
    ) -> None:
        """Queue a message of another queue with the next turn, under its key and with its age.

        ``answer`` gets the id; for a key that is known the one that it was given, and nothing is queued: the caller
        still has its spool file then. The rest is as in ``accept``; there must be recipients.
        """
        known = self.store.foreign(foreign.key)
        if known is not None:
            answer(known)
            return
        message, parts = self._new(
            envelope, origin, content, spool, size, foreign.birth, self._intake, checksum, held=foreign.held
        )
        self._intake.foreign.append((foreign.key, message.id))
        self._accepted.append((message, [] if foreign.held else parts, answer))

    def _vanish(self, sender: bytes, origin: Origin, spool: str, size: int, answer: Answer) -> None:
        """A message for nobody is accepted and gone, as in qmail; it has nothing to be durable for."""
        number = self.store.new_message_id()
        if spool:
            self.store.unlink_spool(spool)
        self._journal.new_message(number)
        self._journal.info(number, size, sender, origin.pid, origin.uid)
        self._journal.end(number)
        answer(number)

    def _new(
        self,
        envelope: Envelope,
        origin: Origin,
        content: bytes,
        spool: str,
        size: int,
        now: float,
        into: Changes,
        checksum: int = 0,
        held: bool = False,
    ) -> tuple[Message, list[Part]]:
        number = self.store.new_message_id()
        count = len(envelope.recipients)
        if not spool:
            checksum = crc32(content)
        meta = Meta(origin, envelope.body, envelope.smtputf8, envelope.ret, envelope.envid, count, checksum)
        message = Message(number, now, envelope.sender, size, spool, meta, None if spool else content, left=0)
        parts = self._split(message, envelope.recipients)
        message.left = len(parts)
        whose: tuple[int | None, bytes | None] = (None, None)
        if len(parts) == 1 and not held and self.scheduler.has_room(len(self._accepted)):
            parts[0].stored = False
            whose = parts[0].lane.id, self._encode(parts[0].recipients)
        else:
            due = None if held else now
            for part in parts:
                into.parts.append((number, part.number, part.lane.id, due, self._encode(part.recipients)))
        encoded = self._encode(meta)
        into.messages.append((number, now, envelope.sender, size, spool or None, encoded, message.content, *whose))
        if held:
            into.held.append((number,))
        return message, parts

    def _split(self, message: Message, recipients: Sequence[Recipient]) -> list[Part]:
        """Parts of recipients that share a destination; local ones and those of a VERP sender stand alone."""
        alone = message.sender.endswith(b"-@[]")
        most = 1 if alone else self._settings.recipientspertransaction
        open_parts: dict[bytes, Part] = {}
        parts: list[Part] = []
        for recipient in recipients:
            decision = self._router.route(recipient.address)
            if decision.recipient != recipient.address:
                recipient = _rewritten(recipient, decision.recipient)
            key = decision.destination
            if decision.channel == "local":
                key = b"local:" + recipient.address.lower()
            part = open_parts.get(key)
            if part is None or len(part.recipients) >= most or decision.channel == "local":
                lane = self.scheduler.lane(key, decision.channel)
                part = open_parts[key] = Part(message, len(parts), lane, [recipient])
                parts.append(part)
            else:
                part.recipients.append(recipient)
        return parts

    # One turn

    @property
    def stuck(self) -> bool:
        """Whether results could not be recorded for want of room."""
        return self._stuck

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for a commit. Results alone may wait a moment for company."""
        return bool(self._intake)

    def turn(self, now: float) -> bool:
        """Commit, answer, start. Whether there is more to do at once."""
        if not self.commit(now):
            return False
        return self.dispatch(now)

    def dispatch(self, now: float) -> bool:
        """Start what may be started. Whether there is more to do at once."""
        if self.stopping or self._stuck:
            return False
        more = self.scheduler.refill(now)
        for part in self.scheduler.pick(now, self._transport.channels()):
            self._start(part, now)
        return more

    def tick(self, now: float) -> bool:
        """Once a second; whether a turn is due."""
        if self._stuck:
            return True
        self._trim_ledger(now)
        return self.scheduler.tick(now) or not self.stopping

    def _trim_ledger(self, now: float) -> None:
        """Forget what is older than the setting says; at once more if there is much of it."""
        if now < self._trim_at:
            return
        try:
            went = self.store.trim_ledger(now - self._settings.ledgerdays * DAY, TRIMMED)
        except StoreFull:
            went = 0
        self._trim_at = now if went >= TRIMMED else now + TRIM_EVERY

    def commit(self, now: float) -> bool:
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
                self._stuck = True
                return False
            accepted = []
        self._stuck = False
        self.scheduler.committed()
        self._after_commit(accepted)
        return True

    def _refuse(self, accepted: list[tuple[Message, list[Part], Answer | None]], error: Exception) -> None:
        if accepted:
            self._journal.alert(f"unable to queue {len(accepted)} messages: {error}")
        for _message, _parts, answer in accepted:
            if answer is not None:
                answer(FULL)

    def _after_commit(self, accepted: list[tuple[Message, list[Part], Answer | None]]) -> None:
        for name in self._unlink:
            self.store.unlink_spool(name)
        self._unlink.clear()
        for message, parts, answer in accepted:
            if answer is not None:
                answer(message.id)
            self._admit(message, parts)
        reported, self._reported = self._reported, []
        for message, parts in reported:
            self._admit(message, parts)

    def _admit(self, message: Message, parts: list[Part]) -> None:
        origin = message.meta.origin
        self._journal.new_message(message.id)
        self._journal.info(message.id, message.size, message.sender, origin.pid, origin.uid)
        self.scheduler.admit(message, parts)

    # Attempts

    def _start(self, part: Part, now: float) -> None:
        lane, message = part.lane, part.message
        self._number(part)
        if lane.paused_until > now:
            self.report(part, [_paused(lane.last)] * len(part.recipients), False, now, attempted=False)
            return
        meta = message.meta
        sender = message.sender
        if sender.endswith(b"-@[]"):
            sender = _verp(sender, part.recipients[0].address)
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
        busy, limit = self.scheduler.in_flight, self.scheduler.limit
        self._journal.status(busy["local"], limit["local"], busy["remote"], limit["remote"])

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

        ``attempted``: the destination was really talked to. ``soon``: a failure was ours, not the destination's.
        """
        message = part.message
        self.scheduler.finish(part, now)
        number = self._numbers.pop(part)
        for outcome in outcomes:
            self._journal.result(number, outcome)
            number += 1
        if unreachable:
            self.scheduler.unreachable(part.lane, now, outcomes[0].text)
        elif attempted:
            self.scheduler.reached(part.lane)
        self._status()
        if not message.withdrawn:
            self._record(part, outcomes, now, soon)

    def _record(self, part: Part, outcomes: list[Outcome], now: float, soon: bool) -> None:
        message = part.message
        told = len(message.ended)
        ends: list[End] = []
        remaining = self._sort(part, outcomes, now, ends)
        changes = self.scheduler.changes
        if remaining:
            due = next_attempt(message.birth, now, self._skip[part.lane.channel])
            if soon:
                due = min(due, now + 2.0 ** min(part.attempts, 12))
            last = next(outcome.text for outcome in outcomes if outcome.verdict == Verdict.DEFERRED)
            attempts, encoded = part.attempts + 1, self._encode(remaining)
            changes.deferred.append((message.id, part.number, part.lane.id, due, attempts, encoded, last))
            self.scheduler.later(part, due)
        else:
            if part.stored:
                changes.finished.append((message.id, part.number))
            message.left -= 1
        if ends and self._keeps_ledger:
            entry = ledger.encode(ends, None if message.left else message)
            changes.ledger.append((message.id, part.number, part.attempts, now, entry))
        if message.ended and (not message.at_hand or len(message.ended) >= NOTICE_AT):
            self._notify(message, now, stored=told > 0)
        elif len(message.ended) > told:
            changes.ended.append((self._encode(message.ended), message.id))
        if not message.left:
            self._remove(message)

    def _sort(self, part: Part, outcomes: list[Outcome], now: float, ends: list[End]) -> list[Recipient]:
        """Put down who came to an end and whose is to be told; return those to be tried again."""
        message = part.message
        remaining = []
        dying = expired(message.birth, now, self._settings.queuelifetime)
        for recipient, outcome in zip(part.recipients, outcomes, strict=True):
            if outcome.verdict == Verdict.DEFERRED:
                if not dying:
                    remaining.append(self._delayed(message, recipient, outcome, now))
                    continue
                outcome = msgspec.structs.replace(
                    outcome, verdict=Verdict.FAILED, status="5.4.7", text=outcome.text + GIVEN_UP
                )
            ends.append(ledger.ending(recipient, outcome))
            if outcome.verdict == Verdict.FAILED:
                if wants_failure(recipient):
                    message.ended.append(Ended(recipient, outcome))
            elif recipient.notify & Notify.SUCCESS and not outcome.relayed_dsn:
                message.ended.append(Ended(recipient, outcome))
        return remaining

    def _delayed(self, message: Message, recipient: Recipient, outcome: Outcome, now: float) -> Recipient:
        """Tell of a delay once, if that was asked for; the recipient without the wish afterwards."""
        if not recipient.notify & Notify.DELAY or now < message.birth + self._settings.delaynotice:
            return recipient
        message.ended.append(Ended(recipient, outcome))
        return msgspec.structs.replace(recipient, notify=recipient.notify & ~Notify.DELAY | _told(recipient))

    # Notices and the end

    def _notify(self, message: Message, now: float, stored: bool) -> None:
        """Queue the notice about ended recipients, in the same transaction that records their end."""
        meta = message.meta
        original = Original(
            message.id,
            message.birth,
            message.sender,
            self._beginning(message),
            message.size,
            meta.ret,
            meta.envid,
            meta.body,
            meta.smtputf8,
        )
        notice = compose(self._settings, original, message.ended, now, os.getpid())
        told = 0
        if notice is None:
            if any(ended.outcome.verdict == Verdict.FAILED for ended in message.ended):
                self._journal.triple_bounce(message.id)
        else:
            origin = Origin("bounce", os.getpid(), os.getuid())
            changes = self.scheduler.changes
            new, parts = self._new(notice.envelope, origin, notice.content, "", len(notice.content), now, changes)
            self._reported.append((new, parts))
            self._journal.bounce(message.id, new.id)
            told = new.id
        if self._keeps_ledger:
            entry = ledger.encode([], notice=told)
            self.scheduler.changes.ledger.append((message.id, ledger.NOTICE, told, now, entry))
        message.ended.clear()
        if stored and message.left:
            self.scheduler.changes.ended.append((None, message.id))

    def _beginning(self, message: Message) -> bytes:
        """The content, or of a large one as much as a notice may return and a little more."""
        if message.content is not None:
            return message.content
        if not message.spool:
            return self.store.content(message.id) or b""
        try:
            descriptor = self.store.open_spool(message.spool)
        except OSError as error:
            self._journal.alert(f"msg {message.id}: unable to open spool/{message.spool}: {error.strerror}")
            return b""
        with open(descriptor, "rb") as file:
            return file.read(self._settings.bouncebytes + 65536)

    def _remove(self, message: Message) -> None:
        self.scheduler.changes.removed.append((message.id,))
        if message.spool:
            self._unlink.append(message.spool)
        self._journal.end(message.id)

    # The administrator's hand

    def requeue(self, number: int, now: float) -> bool:
        """Route a message's recipients anew and try at once; False if it is not there or just being attempted."""
        row = self.store.message(number)
        old = self.store.parts(number)
        if row is None or not old or not self.scheduler.withdraw(number):
            return False
        message = self.scheduler.from_store(row)
        parts = self._split(message, [recipient for part in old for recipient in part.recipients])
        offset = max(part.part for part in old) + 1
        changes = self.scheduler.changes
        changes.finished.extend((number, part.part) for part in old)
        message.left = len(parts)
        for part in parts:
            part.number += offset
            due = None if row.held else now
            changes.parts.append((number, part.number, part.lane.id, due, self._encode(part.recipients)))
            part.lane.more = True
        self.scheduler.wake_all()
        return True

    def give_up(self, number: int, now: float, administrator: str = "") -> bool:
        """Bounce what is left of a message; False if it is not there or just being attempted."""
        row = self.store.message(number)
        if row is None or not self.scheduler.withdraw(number):
            return False
        message = self.scheduler.from_store(row)
        outcome = Outcome(Verdict.FAILED, "5.7.0", "The administrator returned this message.\n")
        parts = self.store.parts(number)
        self._enter_all(message, parts, "failed", f"returned by {administrator}", now)
        for part in parts:
            for recipient in part.recipients:
                if wants_failure(recipient):
                    reason = msgspec.structs.replace(outcome, text=part.last + outcome.text)
                    message.ended.append(Ended(recipient, reason))
            self.scheduler.changes.finished.append((number, part.part))
        message.left = 0
        if message.ended:
            self._notify(message, now, stored=False)
        self._remove(message)
        return True

    def delete(self, number: int, now: float, administrator: str = "") -> bool:
        """Remove a message without telling anybody; False if it is not there or just being attempted."""
        row = self.store.message(number)
        if row is None or not self.scheduler.withdraw(number):
            return False
        message = self.scheduler.from_store(row)
        parts = self.store.parts(number)
        self._enter_all(message, parts, "deleted", f"deleted by {administrator}", now)
        self.scheduler.changes.finished.extend((number, part.part) for part in parts)
        self._remove(message)
        return True

    def _enter_all(self, message: Message, parts: list[PartRow], end: str, report: str, now: float) -> None:
        """Put an administrator's deed into the ledger."""
        if self._keeps_ledger:
            failed = end == "failed"
            recipients = [one for part in parts for one in part.recipients]
            ends = [End(one.address, end, "", report, "", failed and wants_failure(one)) for one in recipients]
            entry = ledger.encode(ends, message)
            self.scheduler.changes.ledger.append((message.id, ledger.ADMINISTRATOR, 0, now, entry))

    def recover(self, now: float) -> None:
        """At start: what ended without a notice before a crash is told now."""
        for number in self.store.unnotified():
            row = self.store.message(number)
            if row is not None:
                message = self.scheduler.from_store(row)
                self._notify(message, now, stored=True)
                if not message.left:
                    self._remove(message)


def _rewritten(recipient: Recipient, address: bytes) -> Recipient:
    """The recipient under its new address; the old one is kept as ORCPT, for notices to name."""
    orcpt = recipient.orcpt or b"rfc822;" + _xtext(recipient.address)
    return Recipient(address, recipient.notify, orcpt)


def _xtext(text: bytes) -> bytes:
    """RFC 3461 section 4."""
    return b"".join(
        b"%c" % octet if 33 <= octet <= 126 and octet not in b"+=" else b"+%02X" % octet for octet in text
    )


def _told(recipient: Recipient) -> int:
    """A wish for delay notices only becomes a wish for none, not the default."""
    return 0 if recipient.notify & ~Notify.DELAY else Notify.NEVER


def _verp(sender: bytes, recipient: bytes) -> bytes:
    """``list-@host-@[]`` as each recipient gets it: ``list-user=domain@host`` (qmail-send.9, addresses.5)."""
    stem = sender[: -len(b"-@[]")]
    local, at, host = stem.rpartition(b"@")
    if not at:
        return sender
    user, at, domain = recipient.rpartition(b"@")
    return local + (user + b"=" + domain if at else recipient) + b"@" + host


def _paused(reason: str) -> Outcome:
    return Outcome(Verdict.DEFERRED, "4.4.1", reason or "The destination could not be reached.\n")

"""How a message comes into the queue: numbered, routed, split into parts, and kept for the next commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec

from ekiden.base.envelope import Envelope, Origin, Recipient
from ekiden.base.header import MESSAGE_ID_WITHIN, message_id
from ekiden.base.outcome import Outcome
from ekiden.base.reply import Reply
from ekiden.base.sender import PER_RECIPIENT
from ekiden.queue.aside import Aside
from ekiden.queue.lane import Message, Part
from ekiden.queue.ledger import whom
from ekiden.queue.rewriting import rewritten
from ekiden.queue.scheduler import Scheduler
from ekiden.queue.sealing import encode_meta, encode_recipients
from ekiden.queue.store import Changes, Meta, Store, StoreFull
from ekiden.routing.route import Router
from ekiden.settings.schema import Settings

Answer = Callable[[int | Reply], None]
"""Told the message's id once it is durable, or why it was not queued."""

FULL = Reply(452, "4.3.1", "mail queue is full, try again later")


class Journal(Protocol):
    """What the engine logs: qmail-send's lines."""

    def status(self, local: int, concurrencylocal: int, remote: int, concurrencyremote: int, end: bool) -> None: ...
    def new_message(self, message: int) -> None: ...
    def info(self, message: int, size: int, sender: bytes, qp: int, uid: int) -> None: ...
    def starting(self, delivery: int, message: int, channel: str, recipient: bytes) -> None: ...
    def result(self, delivery: int, outcome: Outcome) -> None: ...
    def bounce(self, message: int, notice: int) -> None: ...
    def discarding(self, message: int, bounce: str) -> None: ...
    def end(self, message: int) -> None: ...
    def administrator(self, user: str, action: str, message: int) -> None: ...
    def warning(self, text: str) -> None: ...
    def alert(self, text: str) -> None: ...


class Arrival(NamedTuple):
    """A message that comes in. ``content`` in wire form is empty if it is in the spool file ``spool``, which is ""
    otherwise; ``size`` is its octets. ``checksum``: CRC-32 of the spool file, 0 if whoever wrote it does not say."""

    envelope: Envelope
    origin: Origin
    content: bytes
    spool: str
    size: int
    checksum: int = 0


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


class Intake:
    """An engine's beginning; ``queue.engine.Engine`` is the whole."""

    def __init__(self, settings: Settings, store: Store, journal: Journal, transport: Transport) -> None:
        self._aside = Aside(journal.alert)
        self.scheduler = Scheduler(settings, store, self._aside)
        self.store = store
        self.stopping = False
        self._journal = journal
        self._transport = transport
        self._intake = Changes()
        self._accepted: list[tuple[Message, list[Part], Answer]] = []
        """Messages of the next commit, with who waits for it."""
        self._reported: list[tuple[Message, list[Part]]] = []
        """Notices of the next commit."""
        self._unlink: list[str] = []
        """Spool files that no row names after it."""
        self._numbers: dict[Part, int] = {}
        """The log's number of each delivery in progress, the first of a part's."""
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take over changed settings for what comes; nothing in progress is disturbed."""
        self._settings = settings
        self._router = router = Router(settings)
        self._keeps_ledger = settings.ledgerdays > 0
        self._skip = {"local": settings.backofflocal, "remote": settings.backoffremote}
        self.scheduler.configure(settings)
        self.scheduler.rerouting.configure(router)

    def accept(self, arrival: Arrival, now: float, answer: Answer) -> None:
        """Queue a message with the next turn; ``answer`` is called when that is done or has failed."""
        try:
            if not arrival.envelope.recipients:
                self._vanish(arrival, answer)
                return
            message, parts = self._new(arrival, now, self._intake)
        except StoreFull:
            answer(FULL)
            return
        self._accepted.append((message, parts, answer))

    def take_over(self, foreign: Foreign, arrival: Arrival, answer: Answer) -> None:
        """Queue a message of another queue with the next turn, under its key and with its age.

        ``answer`` gets the id; for a key that is known the one that it was given, and nothing is queued: the caller
        still has its spool file then. There must be recipients.
        """
        known = self.store.foreign(foreign.key)
        if known is not None:
            answer(known)
            return
        message, parts = self._new(arrival, foreign.birth, self._intake, held=foreign.held)
        self._intake.foreign.append((foreign.key, message.id))
        self._accepted.append((message, [] if foreign.held else parts, answer))

    def _vanish(self, arrival: Arrival, answer: Answer) -> None:
        """A message for nobody is accepted and gone, as in qmail; it has nothing to be durable for."""
        number = self.store.new_message_id()
        if arrival.spool:
            self.store.unlink_spool(arrival.spool)
        self._tell(number, arrival.size, arrival.envelope.sender, arrival.origin)
        self._journal.end(number)
        answer(number)

    def _tell(self, number: int, size: int, sender: bytes, origin: Origin) -> None:
        """Log that a message has come in."""
        self._journal.new_message(number)
        self._journal.info(number, size, sender, origin.pid, origin.uid)

    def _new(
        self, arrival: Arrival, birth: float, into: Changes, held: bool = False, number: int = 0
    ) -> tuple[Message, list[Part]]:
        envelope, origin, content, spool, size, _checksum = arrival
        number = number or self.store.new_message_id()
        inline = None if spool else content
        message = Message(number, birth, envelope.sender, size, spool, Meta(origin), inline, left=0)
        parts = self._split(message, envelope.recipients)
        message.left = len(parts)
        message.meta = meta = self._meta(arrival, parts)
        whose: tuple[int | None, bytes | None] = (None, None)
        if len(parts) == 1 and not held and self.scheduler.has_room(parts[0].lane, len(self._accepted)):
            parts[0].stored = False
            lane = parts[0].lane.id
            whose = lane, encode_recipients(parts[0].recipients, number, lane)
        else:
            due = None if held else birth
            for part in parts:
                encoded = encode_recipients(part.recipients, number, part.lane.id)
                into.parts.append((number, part.number, part.lane.id, due, encoded))
        encoded = encode_meta(meta, number, envelope.sender)
        into.messages.append((number, birth, envelope.sender, size, spool or None, encoded, inline, *whose))
        if held:
            into.held.append((number,))
        return message, parts

    def _meta(self, arrival: Arrival, parts: list[Part]) -> Meta:
        """What is stored of an envelope whose recipients are in these parts."""
        envelope, origin, content, spool, _size, checksum = arrival
        if not spool:
            checksum = crc32(content)
        name = message_id(self._head(spool) if spool else content)
        who = whom([one.address for part in parts for one in part.recipients])
        count, ret, envid = len(envelope.recipients), envelope.ret, envelope.envid
        return Meta(origin, envelope.body, envelope.smtputf8, ret, envid, count, checksum, name, who)

    def _head(self, spool: str) -> bytes:
        """A large content's beginning; empty if it cannot be read now."""
        try:
            descriptor = self.store.open_spool(spool)
        except OSError:
            return b""
        with open(descriptor, "rb", buffering=0) as file:
            return file.read(MESSAGE_ID_WITHIN) or b""

    def _split(self, message: Message, recipients: Sequence[Recipient]) -> list[Part]:
        """Parts of recipients that share a destination; local ones and those of a VERP sender stand alone."""
        alone = message.sender.endswith(PER_RECIPIENT)
        most = 1 if alone else self._settings.recipientspertransaction
        open_parts: dict[bytes, Part] = {}
        parts: list[Part] = []
        for recipient in recipients:
            decision = self._router.route(recipient.address)
            if decision.recipient != recipient.address:
                recipient = rewritten(recipient, decision.recipient)
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

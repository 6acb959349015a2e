"""The store's interface: what the queue role asks of whatever keeps messages on stable storage.

A *message* has content and an envelope; its recipients are grouped into *parts*, each the recipients that go to one
destination in one transaction. A part is due at a time; it is removed when all its recipients have come to an end.
A message is removed with its last part. A message whose only part has not been attempted yet may hold that part in
itself (``NewMessage``): most messages never need another row. A *destination* exists as long as parts for it do;
``due`` is the time at which it must be looked at again, or None while the scheduler holds it in memory.

All changes of one turn are one transaction (``apply``): after it returns they are durable, if it raises none of them
happened. There is one caller and no thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import msgspec

from ekiden.base.envelope import Origin, Recipient
from ekiden.base.outcome import Outcome

NEVER = 9e15
"""A due time that does not come: what a destination has while all its parts are held."""

NEXT_START = 8e15
"""One that comes with the next start: what a destination has while some of its parts are set aside (``queue.aside``),
and no other waits for a time."""


NO_END = (1 << 62) - 1
"""Above every id."""


class StoreFull(Exception):
    """No room on the device: nothing of this transaction happened, later ones may succeed."""


class StoreFailed(Exception):
    """The device or the file is damaged. Nothing more may be promised on top of it."""


class StoreDamaged(StoreFailed):
    """What is on the disk is not what was written there: to start again is no use."""

    def __str__(self) -> str:
        return f"{super().__str__()}; {REMEDY}"


class RowDamaged(StoreDamaged):
    """What is stored of one message is not what was written. The rest of the store can be read.

    ``message``: its id; ``fault``: what is wrong with it.
    """

    def __init__(self, message: int, fault: str) -> None:
        super().__init__(f"message {message}: {fault}")
        self.message = message
        self.fault = fault


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, TypeError)
"""What the decoding of damaged octets raises, or of what damage has made a text or a number of."""

REMEDY = "remedy: stop ekiden, then: ekiden queue recover"


class Meta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a message's envelope says besides sender and recipients, and where it came from.

    ``recipients``: how many were accepted, and ``whom`` who: ``queue.ledger.whom`` of their addresses, 0 if nobody
    made it; ``checksum``: CRC-32 of the content, 0 if nobody made it; ``message_id``: of its Message-ID field.
    """

    origin: Origin
    body: int = 0
    smtputf8: bool = False
    ret: bytes = b""
    envid: bytes = b""
    recipients: int = 0
    checksum: int = 0
    message_id: bytes = b""
    whom: int = 0


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A recipient that came to an end of which the sender is to be told."""

    recipient: Recipient
    outcome: Outcome


class MessageRow(msgspec.Struct, frozen=True, gc=False):
    """A stored message without its content. ``spool`` names the content's file, or is empty for inline content."""

    id: int
    birth: float
    sender: bytes
    size: int
    spool: str
    held: bool
    meta: Meta
    ended: tuple[Ended, ...] = ()


class PartRow(msgspec.Struct, frozen=True, gc=False):
    """A stored part. ``due`` is None while the message is held. ``last`` is the last attempt's report, if any."""

    message: int
    part: int
    destination: int
    due: float | None
    attempts: int
    recipients: list[Recipient]
    last: str = ""


NewMessage: TypeAlias = tuple[int, float, bytes, int, str | None, bytes, bytes | None, int | None, bytes | None]
"""Id, birth, sender, size, spool, meta, content; and of a message that has its only part in itself, because that is
about to be attempted, the part's destination id and recipients."""


@dataclass(slots=True)
class Changes:
    """One transaction's worth, each list in the order of the statement's parameters.

    Encoded columns (meta, recipients, ended, entry) are octets as ``queue.sealing`` makes them: the caller has what
    is in them at hand anyway.
    """

    destinations: list[tuple[int, bytes, int | None]] = field(default_factory=list)
    """New ones: id, key, its check (``queue.sealing.key_check``). Their due is None: the scheduler holds them."""

    messages: list[NewMessage] = field(default_factory=list)

    parts: list[tuple[int, int, int, float | None, bytes]] = field(default_factory=list)
    """New ones: message, part, destination id, due, recipients."""

    foreign: list[tuple[bytes, int]] = field(default_factory=list)
    """Messages taken over from another queue: the key that names them for ever, message."""

    held: list[tuple[int]] = field(default_factory=list)
    """New messages that are not to be attempted until released."""

    finished: list[tuple[int, int]] = field(default_factory=list)
    """Parts with a row of their own that are done: message, part."""

    deferred: list[tuple[int, int, int, float, int, bytes, str]] = field(default_factory=list)
    """Parts to try again, which have a row of their own from now on: message, part, destination id, due, attempts,
    recipients, last report."""

    reborn: list[tuple[float, int]] = field(default_factory=list)
    """Births that lay in the future, mended: birth, message. They come beside other changes, never alone."""

    renamed: list[tuple[bytes, int]] = field(default_factory=list)
    """Messages with a recipient whose address routing has changed: meta, message. They come beside other changes,
    never alone."""

    ended: list[tuple[bytes | None, int]] = field(default_factory=list)
    """Recipients whose end waits for a notice: encoded list or None, message."""

    removed: list[tuple[int]] = field(default_factory=list)
    """Messages whose last part is done: removed in the transaction that removes the part."""

    parked: list[tuple[float | None, int]] = field(default_factory=list)
    """Destinations: due or None (held by the scheduler), id."""

    forgotten: list[tuple[int]] = field(default_factory=list)
    """Destinations without parts: id."""

    ledger: list[tuple[int, int, int, float, bytes]] = field(default_factory=list)
    """Ends: message, part, attempt, time, entry. They come beside other changes, never alone."""

    unledgered: list[tuple[int]] = field(default_factory=list)
    """Removed messages that leave nothing in the ledger: message."""

    def __bool__(self) -> bool:
        return bool(
            self.messages
            or self.finished
            or self.deferred
            or self.removed
            or self.ended
            or self.parked
            or self.forgotten
            or self.parts
            or self.destinations
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What start-up found: for the log's first lines. ``new``: messages with ids above the first
    number up to the second came while no queue role ran."""

    messages: int
    spool_files_removed: int
    unfinished_destinations: int
    new: tuple[int, int]


class Reach(msgspec.Struct, frozen=True, array_like=True):
    """How far the books reach. ``given``: the highest number that a message may have got so far.

    Every message above ``after`` that left the queue at ``since`` (seconds of the epoch) or later is in the ledger;
    where none is kept, no message is above it.
    """

    given: int = 0
    after: int = NO_END
    since: float = 0.0


class Store(Protocol):
    """What each method gives is told where it is implemented: ``queue.sqlite``, and ``queue.sqlite_reading``.

    Every one may raise ``StoreFailed``, those that write (new numbers too) ``StoreFull``; those about contents and
    spool files OSError.
    """

    # A run of the queue role, and its turns.

    def recover(self) -> Found: ...
    def apply(self, results: Changes, intake: Changes | None = None) -> None: ...
    def new_message_id(self) -> int: ...
    def new_destination_id(self) -> int: ...
    def new_part_number(self) -> int: ...
    def note_reach(self) -> None: ...
    def close(self) -> None: ...

    # What is due.

    def due_destinations(self, now: float, limit: int) -> list[tuple[int, bytes]]: ...
    def destination(self, key: bytes) -> int | None: ...
    def destination_key(self, destination: int) -> bytes | None: ...
    def last_due(self) -> float | None: ...
    def destination_next_due(self, destination: int, after: float) -> float | None: ...
    def claim(
        self, destination: int, now: float, limit: int, damaged: list[RowDamaged] | None = None
    ) -> list[PartRow]: ...

    # Messages.

    def message(self, message: int) -> MessageRow | None: ...
    def foreign(self, key: bytes) -> int | None: ...
    def messages(self, after: int, limit: int, damaged: list[RowDamaged] | None = None) -> list[MessageRow]: ...
    def damaged_message(self, message: int) -> MessageRow: ...
    def unscheduled(self, message: int) -> list[int]: ...
    def part_count(self, message: int) -> int: ...
    def parts(self, message: int, damaged: list[RowDamaged] | None = None) -> list[PartRow]: ...
    def content(self, message: int) -> bytes | None: ...
    def homeless(self, after: int, until: int, limit: int) -> list[int]: ...
    def orphans(self) -> list[int]: ...
    def unnotified(self) -> list[int]: ...
    def count(self) -> int: ...

    # How messages ended.

    def ledger(self, after: int, until: int, limit: int) -> list[tuple[int, int, float, bytes]]: ...
    def keep_ledger(self, kept: bool, now: float) -> None: ...
    def reach(self) -> Reach: ...
    def trim_ledger(self, before: float, limit: int, now: float) -> int: ...

    # The administrator's hand.

    def hold(self, message: int) -> bool: ...
    def release(self, message: int, now: float) -> bool: ...
    def hurry(self, message: int, now: float) -> None: ...
    def flush(self, now: float, after: int) -> tuple[int, int]: ...

    # Large contents.

    def create_spool(self, name: str) -> int: ...
    def spool_size(self, name: str) -> int: ...
    def open_spool(self, name: str) -> int: ...
    def unlink_spool(self, name: str) -> None: ...

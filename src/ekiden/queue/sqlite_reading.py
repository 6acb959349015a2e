"""What is asked of the store on SQLite, and never changes it: what is due, messages, parts, contents, the ledger."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from ekiden.base.envelope import Origin
from ekiden.queue.database import Database
from ekiden.queue.sealing import are_misplaced, decode_ended, decode_meta, decode_recipients, key_check
from ekiden.queue.segments import Segments
from ekiden.queue.store import (
    NEVER,
    NO_END,
    UNDECODABLE,
    MessageRow,
    Meta,
    PartRow,
    Reach,
    RowDamaged,
    StoreDamaged,
)

FRESH = "destination IS NOT NULL AND NOT EXISTS (SELECT 1 FROM part WHERE part.message = message.id)"
"""A message that holds its only part itself. The column is not cleared when the part gets a row: to write the message
anew would write its content anew."""

_MESSAGE = "SELECT id, birth, sender, size, spool, held, meta, ended FROM message"
_PART = "SELECT message, part, destination, due, attempts, recipients, last FROM part"

Row = tuple[Any, ...]
T = TypeVar("T")


class Reading:
    """Questions to an open store. ``StoreFailed`` from all of them.

    Of rows that are not what was written what is wrong goes into ``damaged`` where that is given; less is returned.
    """

    _db: Database
    _segments: Segments
    _count: int

    def due_destinations(self, now: float, limit: int) -> list[tuple[int, bytes]]:
        """Destinations that must be looked at by ``now``, longest due first."""
        rows = self._db.all("SELECT id, key, seal FROM destination WHERE due <= ? ORDER BY due LIMIT ?", now, limit)
        return [(number, _checked(number, key, seal)) for number, key, seal in rows]

    def destination(self, key: bytes) -> int | None:
        """A destination's id; None if none has this key."""
        rows = self._db.all("SELECT id, seal FROM destination WHERE key = ?", key)
        for number, seal in rows:
            # By the key that is asked for: the index may lead to another one's row.
            _checked(number, key, seal)
        return rows[0][0] if rows else None

    def destination_key(self, destination: int) -> bytes | None:
        """A destination's key; None if none has this id."""
        rows = self._db.all("SELECT key, seal FROM destination WHERE id = ?", destination)
        return _checked(destination, *rows[0]) if rows else None

    def last_due(self) -> float | None:
        """When the last part of all is due; None if there is none that is not held."""
        last = f"(SELECT max(due) FROM part WHERE destination = destination.id AND due < {NEVER})"
        return self._db.one(f"SELECT max({last}) FROM destination")  # type: ignore[no-any-return]

    def destination_next_due(self, destination: int, after: float) -> float | None:
        """When the destination's next part after that time is due: NEVER if all are held, None if there are none."""
        later = f"SELECT min(due) FROM part WHERE destination = ? AND due > ? AND due < {NEVER}"
        due = self._db.one(later, destination, after)
        if due is not None:
            return float(due)
        return NEVER if self._db.all("SELECT 1 FROM part WHERE destination = ? LIMIT 1", destination) else None

    def claim(
        self, destination: int, now: float, limit: int, damaged: list[RowDamaged] | None = None
    ) -> list[PartRow]:
        """The destination's parts due by ``now``, longest due first; those in flight are among them."""
        rows = self._db.all(
            f"{_PART} WHERE destination = ? AND due <= ? ORDER BY due LIMIT ?", destination, now, limit
        )
        found = _whole(_part_row, rows, damaged)
        for fault in damaged or ():
            if not self._db.all("SELECT 1 FROM message WHERE id = ?", fault.message):
                # Whose part it is nobody knows then: that message would be taken for one with fewer.
                raise StoreDamaged(*fault.args)
        return found

    def message(self, message: int) -> MessageRow | None:
        """A message; None if it is not in the queue."""
        rows = self._db.all(f"{_MESSAGE} WHERE id = ?", message)
        return _message_row(rows[0]) if rows else None

    def foreign(self, key: bytes) -> int | None:
        """The id that was given to the message taken over by this key, also when it is gone; None if none was."""
        rows = self._db.all("SELECT message FROM foreign_message WHERE key = ?", key)
        return rows[0][0] if rows else None

    def messages(self, after: int, limit: int, damaged: list[RowDamaged] | None = None) -> list[MessageRow]:
        """A page of messages in the order of their ids."""
        rows = self._db.all(f"{_MESSAGE} WHERE id > ? ORDER BY id LIMIT ?", after, limit)
        return _whole(_message_row, rows, damaged)

    def damaged_message(self, message: int) -> MessageRow:
        """What the row says of a message that is damaged, to be shown to a person and used for nothing."""
        number, birth, sender, size, spool, held, _meta, _ended = self._db.all(f"{_MESSAGE} WHERE id = ?", message)[0]
        sender = sender if isinstance(sender, bytes) else b""
        birth, size = birth if _is_time(birth) else 0.0, size if _is_count(size) else 0
        return MessageRow(
            number, birth, sender, size, spool if _is_name(spool) else "", bool(held), Meta(Origin("", 0, 0))
        )

    def parts(self, message: int, damaged: list[RowDamaged] | None = None) -> list[PartRow]:
        """A message's parts, the one that it holds itself among them."""
        rows = self._db.all(f"{_PART} WHERE message = ? ORDER BY part", message)
        own = f"SELECT id, 0, destination, birth, 0, recipients, '' FROM message WHERE id = ? AND {FRESH}"
        return _whole(_part_row, rows or self._db.all(own, message), damaged)

    def unscheduled(self, message: int) -> list[int]:
        """A message's parts that a look by time, or by key, does not come upon, because an index is damaged."""
        rows = self._db.all(
            "SELECT p.part FROM part AS p, destination AS d WHERE p.message = ? AND d.id = p.destination AND NOT ("
            "EXISTS (SELECT 1 FROM part AS i INDEXED BY part_due WHERE i.destination = p.destination"
            " AND i.due IS p.due AND i.message = p.message AND i.part = p.part)"
            " AND EXISTS (SELECT 1 FROM destination AS j INDEXED BY destination_due"
            " WHERE j.due IS d.due AND j.id = d.id)"
            " AND EXISTS (SELECT 1 FROM destination AS k INDEXED BY sqlite_autoindex_destination_1"
            " WHERE k.key = d.key AND k.id = d.id))",
            message,
        )
        return [part for (part,) in rows]

    def homeless(self, after: int, until: int, limit: int) -> list[int]:
        """Messages that have parts and no row, with ids above ``after`` up to ``until``, in their order."""
        rows = self._db.all(
            "SELECT DISTINCT message FROM part WHERE message > ? AND message <= ?"
            " AND NOT EXISTS (SELECT 1 FROM message WHERE id = part.message) ORDER BY message LIMIT ?",
            after,
            until,
            limit,
        )
        return [message for (message,) in rows]

    def reach(self) -> Reach:
        """What numbers were given, and which of those that have left the queue the ledger must know."""
        known = dict(self._db.all("SELECT name, last FROM sequence WHERE name IN ('message', 'ledger', 'since')"))
        found = {name: last for name, last in known.items() if isinstance(last, int)}
        return Reach(found.get("message", 0), found.get("ledger", NO_END), found.get("since", 0))

    def part_count(self, message: int) -> int:
        """How many parts a message has, damaged ones counted."""
        return len(self._db.all("SELECT 1 FROM part WHERE message = ?", message)) or len(
            self._db.all(f"SELECT 1 FROM message WHERE id = ? AND {FRESH}", message)
        )

    def content(self, message: int) -> bytes | None:
        """Content that has no file of its own; None for a message that has one or is gone. OSError."""
        rows = self._db.all("SELECT content, segment, at, size FROM message WHERE id = ?", message)
        if rows and rows[0][1] is not None:
            if not all(map(_is_count, rows[0][1:])):
                raise OSError(errno.EINVAL, "its place in a segment cannot be")
            return self._segments.read(*rows[0][1:])
        content = rows[0][0] if rows else None
        # Text, or a number, is what somebody made of it by hand: whoever compares its checksum will say so.
        return content if content is None or isinstance(content, bytes) else str(content).encode()

    def orphans(self) -> list[int]:
        """Messages with a part whose destination has no row, so that nobody would ever look at it."""
        return [
            row[0]
            for row in self._db.all(
                "SELECT DISTINCT message FROM part WHERE destination IN (SELECT destination FROM"
                " (SELECT DISTINCT destination FROM part) WHERE destination NOT IN (SELECT id FROM destination))"
            )
        ]

    def unnotified(self) -> list[int]:
        """Messages with recipients whose end no notice has told yet."""
        return [row[0] for row in self._db.all("SELECT id FROM message WHERE ended IS NOT NULL")]

    def count(self) -> int:
        """How many messages there are; kept, not counted, because counting would read every content."""
        return self._count

    def ledger(self, after: int, until: int, limit: int) -> list[tuple[int, int, float, bytes]]:
        """Entries of messages with ids above ``after`` up to ``until``, in their order: message, part, time, entry.

        At least one message's whole, and no message's in part.
        """
        rows = self._db.all(
            "SELECT message FROM ledger WHERE message > ? ORDER BY message LIMIT 1 OFFSET ?", after, limit - 1
        )
        last = min(until, rows[0][0] if rows else until)
        return self._db.all(
            "SELECT message, part, at, entry FROM ledger WHERE message > ? AND message <= ?"
            " ORDER BY message, at, part",
            after,
            last,
        )


def _message_row(row: Row) -> MessageRow:
    number, birth, sender, size, spool, held, meta, ended = row
    try:
        decoded = decode_meta(meta, number, sender)
        told = decode_ended(ended, number) if ended else ()
    except UNDECODABLE as error:
        raise RowDamaged(number, f"its envelope: {error}") from error
    if not _is_time(birth) or not _is_count(size) or (spool is not None and not _is_name(spool)):
        raise RowDamaged(number, "its birth, its size or its file's name cannot be")
    return MessageRow(number, birth, sender, size, spool or "", bool(held), decoded, told)


def _whole(decode: Callable[[Row], T], rows: list[Row], damaged: list[RowDamaged] | None) -> list[T]:
    """What is whole of the rows; without ``damaged``, RowDamaged of the first that is not."""
    found = []
    for row in rows:
        try:
            found.append(decode(row))
        except RowDamaged as fault:
            if damaged is None:
                raise
            damaged.append(fault)
    return found


def _part_row(row: Row) -> PartRow:
    message, part, destination, due, attempts, recipients, last = row
    try:
        decoded = decode_recipients(recipients, message, destination)
    except UNDECODABLE as error:
        fault = RowDamaged(message, f"the recipients of its part {part}: {error}")
        if are_misplaced(recipients, message, destination):
            # That message would be gone as soon as its other parts are done.
            raise StoreDamaged(*fault.args) from error
        raise fault from error
    if not (due is None or _is_time(due)) or not _is_count(attempts) or not isinstance(last, str):
        raise RowDamaged(message, f"the time, attempts or report of its part {part} cannot be")
    return PartRow(message, part, destination, due, attempts, decoded, last)


def _is_time(value: object) -> bool:
    return type(value) is float and -NEVER < value < NEVER


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < NO_END


def _is_name(value: object) -> bool:
    """Whether this may name a file in ``spool/``, and no other."""
    return type(value) is str and "/" not in value


def _checked(destination: int, key: bytes, seal: int | None) -> bytes:
    """The key, if it is what was written; one from before there were seals has none."""
    if not isinstance(key, bytes) or (seal is not None and seal != key_check(key, destination)):
        raise StoreDamaged(f"destination {destination}: its key: its check does not fit")
    return key

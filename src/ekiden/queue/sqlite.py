"""The store on SQLite: one file, write-ahead log, fsync at every commit (synchronous=FULL).

``docs/queue.md`` walks through every state on disk and what a crash leaves. In short: a message, its parts and its
destinations appear in one transaction and disappear in later ones; content too large for the table is in a file, of
its own in ``spool/`` or shared in ``segments/`` (``queue.segments``), that was fsynced before the transaction that
names it, and that is unlinked after the transaction that removes it; a file that no row names is a leftover, removed
at start.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from itertools import takewhile
from pathlib import Path

from ekiden.queue.damage import SHOWN, LogReach, look, mark_closed, mark_open
from ekiden.queue.database import Database
from ekiden.queue.fresh import Fresh
from ekiden.queue.numbers import Numbers
from ekiden.queue.segments import LEAST, Place, Segments
from ekiden.queue.sqlite_file import sync
from ekiden.queue.sqlite_reading import FRESH, Reading
from ekiden.queue.store import (
    NEVER,
    NEXT_START,
    Changes,
    Found,
    NewMessage,
    StoreDamaged,
    StoreFailed,
    StoreFull,
)

_SPREAD = f"INSERT INTO part (message, part, destination, due, recipients) \
SELECT id, 0, destination, birth, recipients FROM message WHERE {FRESH}"
"""Give such parts rows of their own."""

LATER_PARTS = 1 << 32
"""Above this the parts are numbered that messages got later; from the beginning none has as many."""

_FLUSH = 5000
"""Parts made due in one transaction, so that intake does not wait for a million of them."""

_MISDATED = 3600.0
"""Seconds that the ledger may be ahead of the clock before it is mended."""

_STATEMENTS = (
    ("destinations", "INSERT INTO destination (id, key, seal) VALUES (?, ?, ?)"),
    (
        "messages",
        "INSERT INTO message (id, birth, sender, size, spool, meta, content, destination, recipients)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ),
    ("parts", "INSERT INTO part (message, part, destination, due, recipients) VALUES (?, ?, ?, ?, ?)"),
    ("foreign", "INSERT INTO foreign_message (key, message) VALUES (?, ?)"),
    ("held", "UPDATE message SET held = 1 WHERE id = ?"),
    ("finished", "DELETE FROM part WHERE message = ? AND part = ?"),
    (
        "deferred",
        "INSERT OR REPLACE INTO part (message, part, destination, due, attempts, recipients, last)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
    ),
    ("reborn", "UPDATE message SET birth = ? WHERE id = ?"),
    ("renamed", "UPDATE message SET meta = ? WHERE id = ?"),
    ("ended", "UPDATE message SET ended = ? WHERE id = ?"),
    ("removed", "DELETE FROM message WHERE id = ?"),
    ("ledger", "INSERT OR REPLACE INTO ledger (message, part, attempt, at, entry) VALUES (?, ?, ?, ?, ?)"),
    ("unledgered", "DELETE FROM ledger WHERE message = ?"),
    ("parked", "UPDATE destination SET due = ? WHERE id = ?"),
    (
        "forgotten",
        "DELETE FROM destination WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM part WHERE destination = ?1)",
    ),
)
"""What each kind of change does to the tables, in the order in which one may depend on another."""

_PLACE = "INSERT INTO message (id, birth, sender, size, spool, meta, content, destination, recipients, segment, at) \
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""A message whose content is in a segment."""


class SQLiteStore(Reading):
    """The store in ``directory`` (``queue.sqlite``, ``spool/``, ``segments/``), made when absent: a ``store.Store``.

    ``thorough``: look for damage in all pages but the leaves before it is opened (``queue.damage``).
    ``segment_octets``: 0 for what suits the device (``queue.segments``).
    """

    def __init__(
        self, directory: Path, checkpoint_pages: int = 4000, thorough: bool = False, segment_octets: int = 0
    ) -> None:
        look(directory, thorough)
        self._directory = directory
        self._spool = directory / "spool"
        self._spool.mkdir(mode=0o700, exist_ok=True)
        self._spool_descriptor = os.open(self._spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._count = 0
        self._fresh = Fresh()
        self._reach: LogReach | None = None
        self._db = Database(directory, checkpoint_pages, self._forget_reach)
        self._numbers = Numbers(self._db)
        self._segments = Segments(directory / "segments", segment_octets)

    # Start and end

    def recover(self) -> Found:
        """Put right what a crash may have left: destinations that were held in memory, files that no row names."""
        held = self._db.one("SELECT count(*) FROM destination WHERE due IS NULL")
        mark, used, told = (self._numbers.noted(name) for name in ("mark", "message", "told"))

        def put_right(db: sqlite3.Connection) -> None:
            db.execute(f"{_SPREAD} AND id >= ?", (mark,))
            # Those whose parts are all held are parked again at once; damage may have made others look like them.
            db.execute("UPDATE destination SET due = 0 WHERE due IS NULL OR due >= ?", (NEXT_START,))
            self._numbers.be_role(db)

        self._db.write(put_right)
        leftovers = self._leftovers()
        for name in leftovers:
            self.unlink_spool(name)
        removed = len(leftovers)
        if self._segments.numbers():
            # Not by an index: where that is damaged, contents would go that are still needed.
            placed = "SELECT segment, count(*), max(id) FROM message WHERE segment IS NOT NULL GROUP BY segment"
            removed += self._segments.recover(self._db.all(placed))
        self._count = self._db.one("SELECT count(DISTINCT message) FROM part")
        mark_open(self._directory)
        self._reach = LogReach(self._directory)
        return Found(self._count, removed, held, (told, used))

    def note_reach(self) -> None:
        """Note how far the log reaches (``queue.damage``); to be called once a second or so."""
        if self._reach is not None:
            # Where it cannot be noted, less is known after a crash.
            with contextlib.suppress(OSError):
                self._reach.note()

    def _forget_reach(self) -> None:
        if self._reach is not None:
            self._reach.forget()

    def _leftovers(self) -> set[str]:
        """Spool files that no message names."""
        found = set(os.listdir(self._spool_descriptor)) - self._named("message INDEXED BY message_spool")
        # Before anything is removed the rows are asked, too: the index may be damaged.
        if found and found & self._named("message NOT INDEXED"):
            raise StoreDamaged(f"{SHOWN}: spool files are missing from index message_spool")
        return found

    def _named(self, where: str) -> set[str]:
        return {name for (name,) in self._db.all(f"SELECT spool FROM {where} WHERE spool IS NOT NULL")}

    def close(self) -> None:
        """Give back unused ids and end cleanly, so that the next start has nothing to recover."""
        # All that matters is committed: where this fails, some ids are skipped.
        with contextlib.suppress(StoreFull, StoreFailed):
            self._db.write(self._numbers.give_back)
        with contextlib.suppress(OSError):
            mark_closed(self._directory)
            self._db.close()
        self._segments.close()
        if self._reach is not None:
            self._reach.close()
        os.close(self._spool_descriptor)

    # The hot path

    def apply(self, results: Changes, intake: Changes | None = None) -> None:
        """Make all changes durable in one transaction; ``StoreFull`` or ``StoreFailed``: none of them happened.

        ``intake`` needs the reserve to be whole; results alone may use it, so that what was delivered can be
        recorded on a full device.
        """
        if intake is not None and intake.messages and not self._has_room():
            raise StoreFull("no room for new messages")
        groups = [results] if intake is None else [results, intake]
        messages = [row for changes in groups for row in changes.messages]
        if any(row[4] for row in messages):
            sync(self._spool_descriptor, self._spool)
        large = [row for row in messages if _is_large(row)]
        mark = self._fresh.mark(self._numbers.given("message"))
        places: list[Place] = []
        left: list[tuple[int, int, int]] = []

        def run_all(db: sqlite3.Connection) -> None:
            places[:] = self._segments.place([row[6] or b"" for row in large]) if large else []
            left[:] = [found for changes in groups for found in self._in_lasting_segments(db, changes.removed)]
            for changes in groups:
                _record(db, changes, bool(large))
            placed = zip(large, places, strict=True)
            db.executemany(_PLACE, ((*row[:6], None, *row[7:], *place) for row, place in placed))
            if mark is not None:
                db.execute("INSERT OR REPLACE INTO sequence VALUES ('mark', ?)", (mark,))

        self._db.write(run_all, may_use_reserve=intake is None)
        if mark is not None:
            self._fresh.marked(mark)
        if large:
            self._segments.keep((row[0], place, row[3]) for row, place in zip(large, places, strict=True))
        for changes in groups:
            self._count += len(changes.messages) - len(changes.removed)
            self._fresh.follow(changes)
            self._segments.give_back(changes.removed)
        self._segments.give_back_lasting(left)

    def _has_room(self) -> bool:
        return self._db.has_room() or (self._segments.drop_empty() and self._db.has_room())

    def _in_lasting_segments(self, db: sqlite3.Connection, removed: list[tuple[int]]) -> list[tuple[int, int, int]]:
        """Segment, offset and size of those contents that only the rows know of."""
        query = "SELECT segment, at, size FROM message WHERE id = ? AND segment IS NOT NULL"
        return [row for number in self._segments.unknown(removed) for row in db.execute(query, (number,))]

    def new_message_id(self) -> int:
        """An id that no message has had."""
        return self._numbers.next("message")

    def new_destination_id(self) -> int:
        """An id that no destination has had."""
        return self._numbers.next("destination")

    def new_part_number(self) -> int:
        """A number for a part that its message did not have from the beginning: none of any message has it."""
        return LATER_PARTS + self._numbers.next("part")

    def keep_ledger(self, kept: bool, now: float) -> None:
        """Note that from now on every message that leaves has its end in the ledger, or need not have."""
        if kept == bool(self._db.all("SELECT 1 FROM sequence WHERE name = 'ledger'")):
            return
        after = self._numbers.given("message") or self._numbers.noted("message")

        def note(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM sequence WHERE name IN ('ledger', 'since')")
            if kept:
                db.execute("INSERT INTO sequence VALUES ('ledger', ?), ('since', ?)", (after, int(now)))

        self._db.write(note)

    def trim_ledger(self, before: float, limit: int, now: float) -> int:
        """Forget messages that ended before then, the oldest of them; how many (``limit``: there may be more).

        What ended in the future, by a clock that has been set back since, ended now: else it would stay for years,
        and all that came after it.
        """
        rows = self._db.all(
            "SELECT message, max(at) FROM ledger WHERE NOT EXISTS (SELECT 1 FROM message WHERE id = ledger.message)"
            " GROUP BY message ORDER BY message LIMIT ?",
            limit,
        )
        # What damage has made a text of is later than all times to SQLite, too.
        rows = [(message, at if isinstance(at, float) else NEVER) for message, at in rows]
        old = [(message,) for message, at in takewhile(lambda row: row[1] < before, rows)]
        future = [(now, message, now) for message, at in rows if at > now + _MISDATED]

        def forget(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM ledger WHERE message = ?", old)
            db.executemany("UPDATE sequence SET last = max(last, ?) WHERE name = 'ledger'", old[-1:])
            db.executemany("UPDATE ledger SET at = ? WHERE message = ? AND at > ?", future)

        if old or future:
            self._db.write(forget)
        return len(old)

    # The administrator's hand

    def hold(self, message: int) -> bool:
        """Keep a message from being attempted until it is released; False if it is on hold already, or gone."""
        changed = self._change(
            message,
            "UPDATE message SET held = 1 WHERE id = ? AND held = 0",
            f"{_SPREAD} AND id = ?",
            "UPDATE part SET due = NULL WHERE message = ?",
        )
        self._fresh.forget(message)
        return changed

    def release(self, message: int, now: float) -> bool:
        """Make a message that is on hold due now; False if it is not, or gone."""
        return self._change(
            message,
            "UPDATE message SET held = 0 WHERE id = ? AND held = 1",
            f"UPDATE destination SET due = {now!r} WHERE due IS NOT NULL AND id IN"
            " (SELECT destination FROM part WHERE message = ?)",
            f"UPDATE part SET due = {now!r} WHERE message = ? AND due IS NULL",
        )

    def hurry(self, message: int, now: float) -> None:
        """Make a message due now if it is not on hold."""
        self._change(
            message,
            f"UPDATE part SET due = {now!r} WHERE message = ? AND due > {now!r}",
            f"UPDATE destination SET due = {now!r} WHERE due > {now!r} AND id IN"
            " (SELECT destination FROM part WHERE message = ?)",
        )

    def _change(self, message: int, *statements: str) -> bool:
        """Run statements about a message in one transaction; whether the first one changed anything."""

        def run_all(db: sqlite3.Connection) -> bool:
            counts = [db.execute(statement, (message,)).rowcount for statement in statements]
            return counts[0] > 0

        return self._db.write(run_all)

    def flush(self, now: float, after: int) -> tuple[int, int]:
        """Make parts that are not held due now, a bounded number: those of messages with ids above ``after``.

        Returns how many messages were changed, and the id to go on after (0: that was all).
        """
        rows = self._db.all(
            "SELECT message FROM part WHERE message > ? ORDER BY message LIMIT 1 OFFSET ?", after, _FLUSH
        )
        until = rows[0][0] if rows else 1 << 62

        def run_all(db: sqlite3.Connection) -> int:
            db.execute(
                "UPDATE destination SET due = ? WHERE due > ? AND id IN"
                " (SELECT destination FROM part WHERE message > ? AND message <= ?)",
                (now, now, after, until),
            )
            later = "due > ? AND message > ? AND message <= ?"
            counted = db.execute(f"SELECT count(DISTINCT message) FROM part WHERE {later}", (now, after, until))
            (count,) = counted.fetchone()
            db.execute(f"UPDATE part SET due = ? WHERE {later}", (now, now, after, until))
            return int(count)

        return self._db.write(run_all), until if rows else 0

    # Spool files

    def create_spool(self, name: str) -> int:
        """A descriptor for a new spool file, open for reading and writing; OSError when it cannot be made."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._spool_descriptor)

    def open_spool(self, name: str) -> int:
        """A descriptor for reading a spool file."""
        # Not to wait for ever if it is a pipe.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(name, flags, dir_fd=self._spool_descriptor)

    def spool_size(self, name: str) -> int:
        """Octets in a spool file; OSError if it is not there."""
        return os.stat(name, dir_fd=self._spool_descriptor).st_size

    def unlink_spool(self, name: str) -> None:
        """Remove a spool file that no row names any more; if that cannot be, the next start tries again."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._spool_descriptor)


def _is_large(row: NewMessage) -> bool:
    """Whether the content goes into a segment."""
    return row[6] is not None and len(row[6]) >= LEAST


def _record(db: sqlite3.Connection, changes: Changes, has_large: bool) -> None:
    """Make the changes, but for messages whose content goes into a segment, of which there are some."""
    for name, statement in _STATEMENTS:
        if rows := getattr(changes, name):
            if has_large and name == "messages":
                rows = [row for row in rows if not _is_large(row)]
            db.executemany(statement, rows)

"""The store on SQLite: one file, write-ahead log, fsync at every commit (synchronous=FULL).

``docs/queue.md`` walks through every state on disk and what a crash leaves. In short: a message, its parts and its
destinations appear in one transaction and disappear in later ones; content too large for the table is a file in
``spool/`` that was fsynced before the transaction that names it, and that is unlinked after the transaction that
removes it; a file that no row names is a leftover, removed at start.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ekiden.base.envelope import Recipient
from ekiden.queue.store import NEVER, Changes, Ended, Found, MessageRow, Meta, PartRow, StoreFailed, StoreFull

_TABLES = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, birth REAL NOT NULL, sender BLOB NOT NULL, size INTEGER NOT NULL, spool TEXT,
    meta BLOB NOT NULL, ended BLOB, held INTEGER NOT NULL DEFAULT 0, destination INTEGER, recipients BLOB,
    content BLOB);
CREATE INDEX IF NOT EXISTS message_ended ON message (id) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_spool ON message (spool) WHERE spool IS NOT NULL;
CREATE TABLE IF NOT EXISTS part (
    message INTEGER NOT NULL, part INTEGER NOT NULL, destination INTEGER NOT NULL, due REAL,
    attempts INTEGER NOT NULL DEFAULT 0, recipients BLOB NOT NULL, last TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (message, part)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS part_due ON part (destination, due);
CREATE TABLE IF NOT EXISTS destination (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, due REAL);
CREATE INDEX IF NOT EXISTS destination_due ON destination (due);
CREATE TABLE IF NOT EXISTS ledger (
    message INTEGER NOT NULL, part INTEGER NOT NULL, attempt INTEGER NOT NULL, at REAL NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (message, part, attempt)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS foreign_message (key BLOB PRIMARY KEY, message INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sequence (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
"""

_VERSION = 2
_UPGRADES = {1: "ALTER TABLE message ADD COLUMN destination INTEGER; ALTER TABLE message ADD COLUMN recipients BLOB;"}
"""What makes the tables of an earlier version those of the next."""

_FRESH = "destination IS NOT NULL AND NOT EXISTS (SELECT 1 FROM part WHERE part.message = message.id)"
"""A message that holds its only part itself. The column is not cleared when the part gets a row: to write the message
anew would write its content anew."""
_SPREAD = f"INSERT INTO part (message, part, destination, due, recipients) \
SELECT id, 0, destination, birth, recipients FROM message WHERE {_FRESH}"
"""Give such parts rows of their own."""
_PAGE = 4096
"""Octets. Every page that a transaction touches is written whole, and most touched ones are small."""
_LOG_SHARE = 16
"""The write-ahead log takes at most about this part of the device before it is written back."""
_RESERVE_OCTETS = 4 * 1024 * 1024
_RESERVE = 10_000
"""Ids reserved at once, so that none is ever used twice, even for a message that is long gone."""

_FLUSH = 5000
"""Parts made due in one transaction, so that intake does not wait for a million of them."""

_MESSAGE = "SELECT id, birth, sender, size, spool, held, meta, ended FROM message"
_PART = "SELECT message, part, destination, due, attempts, recipients, last FROM part"

_recipients = msgspec.msgpack.Decoder(list[Recipient])
_meta = msgspec.msgpack.Decoder(Meta)
_ended = msgspec.msgpack.Decoder(tuple[Ended, ...])

Result = TypeVar("Result")


class SQLiteStore:
    """The store in ``directory`` (``queue.sqlite`` and ``spool/``), made when absent; see ``queue.store.Store``."""

    def __init__(self, directory: Path, checkpoint_pages: int = 4000) -> None:
        self._spool = directory / "spool"
        self._spool.mkdir(mode=0o700, exist_ok=True)
        self._spool_descriptor = os.open(self._spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._ids: dict[str, tuple[int, int]] = {}
        self._count = 0
        self._fresh: dict[int, None] = {}
        self._turns = (0, 0)
        self._marked = 0
        self._reserve = Reserve(directory, checkpoint_pages * _PAGE)
        try:
            # Autocommit mode: transactions are begun and ended here and nowhere else.
            self._db = sqlite3.connect(
                directory / "queue.sqlite", isolation_level=None, cached_statements=256, timeout=0
            )
            # On a small device the log must not take all the room.
            self._prepare(max(16, self._reserve.log_size // _PAGE))
        except sqlite3.Error as error:
            raise StoreFailed(f"{directory / 'queue.sqlite'}: {error}") from error

    def _prepare(self, checkpoint_pages: int) -> None:
        run = self._db.execute
        run(f"PRAGMA page_size = {_PAGE}")
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA wal_autocheckpoint = {checkpoint_pages:d}")
        run("PRAGMA cache_size = -32768")
        run("PRAGMA temp_store = MEMORY")
        (version,) = run("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise sqlite3.DatabaseError(f"made by a later version of ekiden (schema {version})")
        upgrade = "".join(_UPGRADES[earlier] for earlier in range(version, _VERSION) if version)
        self._db.executescript(f"BEGIN; {upgrade} {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")

    # Start and end

    def recover(self) -> Found:
        """Put right what a crash may have left: destinations that were held in memory, files that no row names."""
        held = self._one("SELECT count(*) FROM destination WHERE due IS NULL")
        mark = self._one("SELECT coalesce(max(last), 0) FROM sequence WHERE name = 'mark'")

        def put_right(run: Callable[..., sqlite3.Cursor]) -> None:
            run(f"{_SPREAD} AND id >= ?", (mark,))
            run("UPDATE destination SET due = 0 WHERE due IS NULL")

        self._write(put_right)
        named = {name for (name,) in self._all("SELECT spool FROM message WHERE spool IS NOT NULL")}
        leftovers = [name for name in os.listdir(self._spool_descriptor) if name not in named]
        for name in leftovers:
            os.unlink(name, dir_fd=self._spool_descriptor)
        self._count = self._one("SELECT count(DISTINCT message) FROM part")
        return Found(self._count, len(leftovers), held)

    def close(self) -> None:
        """Give back unused ids and end cleanly, so that the next start has nothing to recover."""
        for name, (used, _reserved) in self._ids.items():
            self._write(lambda run, n=name, u=used: run("UPDATE sequence SET last = ? WHERE name = ?", (u, n)))  # type: ignore[misc]
        self._db.close()
        os.close(self._spool_descriptor)

    # The hot path

    def apply(self, results: Changes, intake: Changes | None = None) -> None:
        """Make all changes durable in one transaction; ``StoreFull`` or ``StoreFailed``: none of them happened.

        ``intake`` needs the reserve to be whole; results alone may use it, so that what was delivered can be
        recorded on a full device.
        """
        groups = [results] if intake is None else [results, intake]
        if intake is not None and intake.messages and not self._has_room():
            raise StoreFull("no room for new messages")
        if any(row[4] for changes in groups for row in changes.messages):
            os.fsync(self._spool_descriptor)

        def run_all(_run: Callable[..., sqlite3.Cursor]) -> None:
            for changes in groups:
                self._run(changes)
            if mark - self._marked >= _RESERVE:
                self._db.execute("INSERT OR REPLACE INTO sequence VALUES ('mark', ?)", (mark,))

        mark = self._mark()
        self._write(run_all, may_use_reserve=intake is None)
        if mark - self._marked >= _RESERVE:
            self._marked = mark
        for changes in groups:
            self._count += len(changes.messages) - len(changes.removed)
            self._follow(changes)

    def _follow(self, changes: Changes) -> None:
        """Keep in mind which messages hold their part themselves."""
        for row in changes.messages:
            if row[7] is not None:
                self._fresh[row[0]] = None
        pop = self._fresh.pop
        for (number,) in changes.removed:
            pop(number, None)
        for deferred in changes.deferred:
            pop(deferred[0], None)
        for part in changes.parts:
            pop(part[0], None)

    def _mark(self) -> int:
        """Below this id no message holds its part itself: noted from time to time, so that a start needs not look.

        What was numbered in this turn or the one before may still come, and counts.
        """
        used, _reserved = self._ids.get("message", (0, 0))
        before, now = self._turns
        self._turns = (now, used + 1)
        return min(before, next(iter(self._fresh), before))

    def _has_room(self) -> bool:
        """Whether new messages leave room to record results: outside, or in what the file has of unused pages."""
        if self._reserve.restore():
            return True
        unused = self._one("PRAGMA freelist_count") * _PAGE
        return unused > self._reserve.size and self._reserve.room_for_log() > self._reserve.log_size

    def _checkpoint(self) -> None:
        """Give the log's room back; it may fail for want of room, and then later ones succeed."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _run(self, changes: Changes) -> None:
        many = self._db.executemany
        if changes.destinations:
            many("INSERT INTO destination (id, key) VALUES (?, ?)", changes.destinations)
        if changes.messages:
            many(
                "INSERT INTO message (id, birth, sender, size, spool, meta, content, destination, recipients)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                changes.messages,
            )
        if changes.parts:
            many(
                "INSERT INTO part (message, part, destination, due, recipients) VALUES (?, ?, ?, ?, ?)", changes.parts
            )
        if changes.foreign:
            many("INSERT INTO foreign_message (key, message) VALUES (?, ?)", changes.foreign)
        if changes.held:
            many("UPDATE message SET held = 1 WHERE id = ?", changes.held)
        if changes.finished:
            many("DELETE FROM part WHERE message = ? AND part = ?", changes.finished)
        if changes.deferred:
            many(
                "INSERT OR REPLACE INTO part (message, part, destination, due, attempts, recipients, last)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                changes.deferred,
            )
        if changes.ended:
            many("UPDATE message SET ended = ? WHERE id = ?", changes.ended)
        if changes.removed:
            many("DELETE FROM message WHERE id = ?", changes.removed)
        if changes.ledger:
            many(
                "INSERT OR REPLACE INTO ledger (message, part, attempt, at, entry) VALUES (?, ?, ?, ?, ?)",
                changes.ledger,
            )
        if changes.parked:
            many("UPDATE destination SET due = ? WHERE id = ?", changes.parked)
        if changes.forgotten:
            many(
                "DELETE FROM destination WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM part WHERE destination = ?1)",
                changes.forgotten,
            )

    def new_message_id(self) -> int:
        return self._next("message")

    def new_destination_id(self) -> int:
        return self._next("destination")

    def _next(self, name: str) -> int:
        used, reserved = self._ids.get(name, (0, 0))
        if used >= reserved:
            used = self._one("SELECT coalesce(max(last), 0) FROM sequence WHERE name = ?", name)
            reserved = used + _RESERVE
            self._write(lambda run: run("INSERT OR REPLACE INTO sequence VALUES (?, ?)", (name, reserved)))
        self._ids[name] = (used + 1, reserved)
        return used + 1

    # Looking

    def due_destinations(self, now: float, limit: int) -> list[tuple[int, bytes]]:
        """Destinations that must be looked at by ``now``, longest due first."""
        return self._all("SELECT id, key FROM destination WHERE due <= ? ORDER BY due LIMIT ?", now, limit)

    def destination(self, key: bytes) -> int | None:
        rows = self._all("SELECT id FROM destination WHERE key = ?", key)
        return rows[0][0] if rows else None

    def destination_key(self, destination: int) -> bytes | None:
        rows = self._all("SELECT key FROM destination WHERE id = ?", destination)
        return rows[0][0] if rows else None

    def next_due(self) -> float | None:
        """When the next destination not held in memory is due; None if there is none."""
        return self._one("SELECT min(due) FROM destination")  # type: ignore[no-any-return]

    def destination_next_due(self, destination: int, after: float) -> float | None:
        """When the destination's next part after that time is due: NEVER if all are held, None if there are none."""
        due = self._one("SELECT min(due) FROM part WHERE destination = ? AND due > ?", destination, after)
        if due is not None:
            return float(due)
        return NEVER if self._all("SELECT 1 FROM part WHERE destination = ? LIMIT 1", destination) else None

    def claim(self, destination: int, now: float, limit: int) -> list[PartRow]:
        """The destination's parts due by ``now``, longest due first; those in flight are among them."""
        rows = self._all(f"{_PART} WHERE destination = ? AND due <= ? ORDER BY due LIMIT ?", destination, now, limit)
        return [_part_row(row) for row in rows]

    def message(self, message: int) -> MessageRow | None:
        rows = self._all(f"{_MESSAGE} WHERE id = ?", message)
        return _message_row(rows[0]) if rows else None

    def foreign(self, key: bytes) -> int | None:
        """The id that was given to the message taken over by this key, also when it is gone; None if none was."""
        rows = self._all("SELECT message FROM foreign_message WHERE key = ?", key)
        return rows[0][0] if rows else None

    def messages(self, after: int, limit: int) -> list[MessageRow]:
        """A page of messages in the order of their ids."""
        return [_message_row(row) for row in self._all(f"{_MESSAGE} WHERE id > ? ORDER BY id LIMIT ?", after, limit)]

    def parts(self, message: int) -> list[PartRow]:
        rows = self._all(f"{_PART} WHERE message = ? ORDER BY part", message)
        own = f"SELECT id, 0, destination, birth, 0, recipients, '' FROM message WHERE id = ? AND {_FRESH}"
        return [_part_row(row) for row in rows or self._all(own, message)]

    def part_count(self, message: int) -> int:
        return len(self._all("SELECT 1 FROM part WHERE message = ?", message)) or len(
            self._all(f"SELECT 1 FROM message WHERE id = ? AND {_FRESH}", message)
        )

    def content(self, message: int) -> bytes | None:
        """Inline content; None for a message that has a spool file or is gone."""
        rows = self._all("SELECT content FROM message WHERE id = ?", message)
        return rows[0][0] if rows else None

    def unnotified(self) -> list[int]:
        """Messages with recipients whose end no notice has told yet."""
        return [row[0] for row in self._all("SELECT id FROM message WHERE ended IS NOT NULL")]

    def count(self) -> int:
        """How many messages there are; kept, not counted, because counting would read every content."""
        return self._count

    # The ledger

    def ledger(self, after: int, until: int, limit: int) -> list[tuple[int, int, float, bytes]]:
        """Entries of messages with ids above ``after`` up to ``until``, in their order: message, part, time, entry.

        At least one message's whole, and no message's in part.
        """
        rows = self._all(
            "SELECT message FROM ledger WHERE message > ? ORDER BY message LIMIT 1 OFFSET ?", after, limit - 1
        )
        last = min(until, rows[0][0] if rows else until)
        return self._all(
            "SELECT message, part, at, entry FROM ledger WHERE message > ? AND message <= ?"
            " ORDER BY message, at, part",
            after,
            last,
        )

    def trim_ledger(self, before: float, limit: int) -> int:
        """Forget messages that ended before then, the oldest of them; how many (``limit``: there may be more)."""
        rows = self._all(
            "SELECT message, max(at) FROM ledger WHERE NOT EXISTS (SELECT 1 FROM message WHERE id = ledger.message)"
            " GROUP BY message ORDER BY message LIMIT ?",
            limit,
        )
        old = [(message,) for message, at in takewhile(lambda row: row[1] < before, rows)]

        def forget(_run: Callable[..., sqlite3.Cursor]) -> None:
            self._db.executemany("DELETE FROM ledger WHERE message = ?", old)

        if old:
            self._write(forget)
        return len(old)

    # The administrator's hand

    def hold(self, messages: Sequence[int], now: float) -> int:
        """Keep these from being attempted until released; how many were not held before."""
        count = self._each(
            messages,
            "UPDATE message SET held = 1 WHERE id = ? AND held = 0",
            f"{_SPREAD} AND id = ?",
            "UPDATE part SET due = NULL WHERE message = ?",
        )
        for number in messages:
            self._fresh.pop(number, None)
        return count

    def release(self, messages: Sequence[int], now: float) -> int:
        """Make held messages due now."""
        return self._each(
            messages,
            "UPDATE message SET held = 0 WHERE id = ? AND held = 1",
            f"UPDATE destination SET due = {now!r} WHERE due IS NOT NULL AND id IN"
            " (SELECT destination FROM part WHERE message = ?)",
            f"UPDATE part SET due = {now!r} WHERE message = ? AND due IS NULL",
        )

    def _each(self, messages: Sequence[int], counted: str, *others: str) -> int:
        """Run the statements for each message in one transaction; the number of rows that the first one changed."""

        def run_all(run: Callable[..., sqlite3.Cursor]) -> int:
            count = 0
            for number in messages:
                count += run(counted, (number,)).rowcount
                for statement in others:
                    run(statement, (number,))
            return count

        return self._write(run_all)

    def flush(self, now: float, after: int) -> tuple[int, int]:
        """Make parts that are not held due now, a bounded number: those of messages with ids above ``after``.

        Returns how many were changed, and the id to go on after (0: that was all).
        """
        rows = self._all(
            "SELECT message FROM part WHERE message > ? ORDER BY message LIMIT 1 OFFSET ?", after, _FLUSH
        )
        until = rows[0][0] if rows else 1 << 62

        def run_all(run: Callable[..., sqlite3.Cursor]) -> int:
            run(
                "UPDATE destination SET due = ? WHERE due > ? AND id IN"
                " (SELECT destination FROM part WHERE message > ? AND message <= ?)",
                (now, now, after, until),
            )
            statement = "UPDATE part SET due = ? WHERE due > ? AND message > ? AND message <= ?"
            return run(statement, (now, now, after, until)).rowcount

        return self._write(run_all), until if rows else 0

    # Spool files

    def create_spool(self, name: str) -> int:
        """A descriptor for a new spool file, open for reading and writing; OSError when it cannot be made."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._spool_descriptor)

    def open_spool(self, name: str) -> int:
        """A descriptor for reading a spool file."""
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._spool_descriptor)

    def spool_size(self, name: str) -> int:
        """Octets in a spool file; OSError if it is not there."""
        return os.stat(name, dir_fd=self._spool_descriptor).st_size

    def unlink_spool(self, name: str) -> None:
        """Remove a spool file that no row names any more."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._spool_descriptor)

    # SQLite's errors, told apart

    def _write(self, body: Callable[[Callable[..., sqlite3.Cursor]], Result], may_use_reserve: bool = True) -> Result:
        """Run a transaction; on a full device once more with the reserve's room, if it may."""
        try:
            return self._transact(body)
        except StoreFull:
            if not may_use_reserve or not self._reserve.release():
                raise
        result = self._transact(body)
        self._checkpoint()
        return result

    def _transact(self, body: Callable[[Callable[..., sqlite3.Cursor]], Result]) -> Result:
        run = self._db.execute
        try:
            run("BEGIN IMMEDIATE")
            result = body(run)
            run("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                raise StoreFull(str(error)) from error
            raise StoreFailed(str(error)) from error
        except BaseException:
            # A value that SQLite cannot hold, for one: the transaction must not stay open.
            self._roll_back()
            raise
        return result

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreFailed(str(error)) from error

    def _all(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(str(error)) from error

    def _one(self, statement: str, *values: Any) -> Any:
        return self._all(statement, *values)[0][0]


class Reserve:
    """A file that takes up room on the device, to be given up when there is no other left."""

    def __init__(self, directory: Path, log_size: int) -> None:
        statistics = os.statvfs(directory)
        device_size = statistics.f_blocks * statistics.f_frsize
        self.log_size = min(log_size, device_size // _LOG_SHARE)
        self._directory = directory
        self._path = directory / "reserve"
        self.size = min(_RESERVE_OCTETS, device_size // 8)
        self._whole = self._path.exists() and self._path.stat().st_blocks * 512 >= self.size
        self.restore()

    def restore(self) -> bool:
        """Make the file whole; False if there is no room for it."""
        if not self._whole and self.room_for_log() > self.size + self.log_size:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.size)
                self._whole = True
            except OSError:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
        return self._whole

    def room_for_log(self) -> int:
        """Octets that the write-ahead log can use: what it has, and what is free on the device."""
        statistics = os.statvfs(self._directory)
        log = self._directory / "queue.sqlite-wal"
        return statistics.f_bavail * statistics.f_frsize + (log.stat().st_size if log.exists() else 0)

    def release(self) -> bool:
        """Give up the room; False if it was given up already."""
        released, self._whole = self._whole, False
        self._path.unlink(missing_ok=True)
        return released


def _message_row(row: tuple[Any, ...]) -> MessageRow:
    number, birth, sender, size, spool, held, meta, ended = row
    try:
        decoded = _meta.decode(meta)
        told = _ended.decode(ended) if ended else ()
    except msgspec.DecodeError as error:
        raise StoreFailed(f"message {number}: {error}") from error
    return MessageRow(number, birth, sender, size, spool or "", bool(held), decoded, told)


def _part_row(row: tuple[Any, ...]) -> PartRow:
    message, part, destination, due, attempts, recipients, last = row
    try:
        decoded = _recipients.decode(recipients)
    except msgspec.DecodeError as error:
        raise StoreFailed(f"message {message} part {part}: {error}") from error
    return PartRow(message, part, destination, due, attempts, decoded, last)

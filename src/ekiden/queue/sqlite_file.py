"""The store's one file: its tables, how it is made and opened, and what SQLite's errors mean."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ekiden.queue.damage import FILE, SHOWN
from ekiden.queue.store import StoreDamaged, StoreFailed

_TABLES = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, birth REAL NOT NULL, sender BLOB NOT NULL, size INTEGER NOT NULL, spool TEXT,
    segment INTEGER, at INTEGER, meta BLOB NOT NULL, ended BLOB, held INTEGER NOT NULL DEFAULT 0,
    destination INTEGER, recipients BLOB, content BLOB);
CREATE INDEX IF NOT EXISTS message_ended ON message (id) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_spool ON message (spool) WHERE spool IS NOT NULL;
CREATE TABLE IF NOT EXISTS part (
    message INTEGER NOT NULL, part INTEGER NOT NULL, destination INTEGER NOT NULL, due REAL,
    attempts INTEGER NOT NULL DEFAULT 0, recipients BLOB NOT NULL, last TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (message, part)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS part_due ON part (destination, due);
CREATE TABLE IF NOT EXISTS destination (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, due REAL, seal INTEGER);
CREATE INDEX IF NOT EXISTS destination_due ON destination (due);
CREATE TABLE IF NOT EXISTS ledger (
    message INTEGER NOT NULL, part INTEGER NOT NULL, attempt INTEGER NOT NULL, at REAL NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (message, part, attempt)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS foreign_message (key BLOB PRIMARY KEY, message INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sequence (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
"""

_VERSION = 4
_UPGRADES = {
    1: "ALTER TABLE message ADD COLUMN destination INTEGER; ALTER TABLE message ADD COLUMN recipients BLOB;",
    2: "ALTER TABLE message ADD COLUMN segment INTEGER; ALTER TABLE message ADD COLUMN at INTEGER;",
    # Besides, what is encoded is sealed from then on (``queue.sealing``), which an earlier ekiden cannot read.
    3: "ALTER TABLE destination ADD COLUMN seal INTEGER;",
}
"""What makes the tables of an earlier version those of the next."""

PAGE = 4096
"""Octets. Every page that a transaction touches is written whole, and most touched ones are small."""


def open_file(directory: Path, checkpoint_pages: int) -> sqlite3.Connection:
    """``queue.sqlite``, made when absent, open for this process alone; ``StoreFailed``."""
    try:
        if not (directory / FILE).exists():
            _make(directory)
        _make_names_durable(directory)
        db = _connect(directory / FILE)
        _prepare(db, checkpoint_pages)
    except sqlite3.Error as error:
        raise failure(error) from error
    return db


def _make(directory: Path) -> None:
    """A new file, which bears its name only when it is whole."""
    new = directory / f"{FILE}.new"
    for name in (new.name, f"{new.name}-wal"):
        (directory / name).unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = _connect(new)
    db.execute("PRAGMA journal_mode = MEMORY")
    _prepare(db, 1000)
    # To close would do it too, and say nothing if it fails.
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()
    new.rename(directory / FILE)


def _prepare(db: sqlite3.Connection, checkpoint_pages: int) -> None:
    run = db.execute
    run(f"PRAGMA page_size = {PAGE}")
    run("PRAGMA locking_mode = EXCLUSIVE")
    run("PRAGMA journal_mode = WAL")
    run("PRAGMA synchronous = FULL")
    run(f"PRAGMA wal_autocheckpoint = {checkpoint_pages:d}")
    run("PRAGMA cache_size = -32768")
    run("PRAGMA temp_store = MEMORY")
    (version,) = run("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise sqlite3.DatabaseError(f"made by a later version of ekiden (schema {version})")
    if version == _VERSION:
        # Nothing is written: a full device must not keep the queue from being opened.
        return
    upgrade = "".join(_UPGRADES[earlier] for earlier in range(version, _VERSION) if version)
    db.executescript(f"BEGIN; {upgrade} {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")


_DAMAGED = ("Could not decode to UTF-8", "no such ")


def failure(error: sqlite3.Error) -> StoreFailed:
    """What an error of SQLite's that is not a full device means."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # Of a text that is none Python says so, and SQLite nothing. What is not in the schema is "no such table".
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith(_DAMAGED):
        return StoreDamaged(f"{SHOWN}: {error}")
    return StoreFailed(f"{SHOWN}: {error}")


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit mode: transactions are begun and ended here and nowhere else.
    return sqlite3.connect(path, isolation_level=None, cached_statements=256, timeout=0)


def _make_names_durable(directory: Path) -> None:
    """Have the file and its log there under durable names: SQLite does not mind if it cannot sync the directory."""
    for name in (FILE, f"{FILE}-wal"):
        os.close(os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor, directory)
    finally:
        os.close(descriptor)


def sync(descriptor: int, directory: Path) -> None:
    """Make the names in a directory durable."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise StoreFailed(f"{directory}: {error.strerror}") from error

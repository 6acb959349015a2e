"""Transactions on the store's file, and SQLite's errors told apart: a full device, a damaged file, other trouble."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ekiden.queue.reserve import Reserve
from ekiden.queue.sqlite_file import PAGE, failure, open_file
from ekiden.queue.store import StoreFailed, StoreFull

Result = TypeVar("Result")


class Database:
    """``queue.sqlite`` in ``directory``, open for this process alone; ``StoreFailed`` from what cannot be done.

    ``before_cut`` is called before the log is cut off to nothing.
    """

    def __init__(self, directory: Path, checkpoint_pages: int, before_cut: Callable[[], None]) -> None:
        self._before_cut = before_cut
        self._reserve = Reserve(directory, checkpoint_pages * PAGE)
        # On a small device the log must not take all the room.
        self.connection = open_file(directory, max(16, self._reserve.log_size // PAGE))

    def close(self) -> None:
        """Close the file; the last to do so has its log written back."""
        self.connection.close()

    def all(self, statement: str, *values: Any) -> list[Any]:
        """Every row that a query finds."""
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise failure(error) from error

    def one(self, statement: str, *values: Any) -> Any:
        """The first column of the first row; there must be one."""
        return self.all(statement, *values)[0][0]

    def write(self, body: Callable[[sqlite3.Connection], Result], may_use_reserve: bool = True) -> Result:
        """Run a transaction; on a full device once more with the reserve's room, if it may; else ``StoreFull``."""
        try:
            return self._transact(body)
        except StoreFull:
            if not may_use_reserve or not self._reserve.release():
                raise
        result = self._transact(body)
        self._checkpoint()
        return result

    def has_room(self) -> bool:
        """Whether new messages leave room to record results: outside, or in what the file has of unused pages."""
        if self._reserve.restore():
            return True
        unused = self.one("PRAGMA freelist_count") * PAGE
        return unused > self._reserve.size and self._reserve.room_for_log() > self._reserve.log_size

    def _transact(self, body: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            result = body(self.connection)
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if self._is_full(getattr(error, "sqlite_errorcode", 0)):
                raise StoreFull(str(error)) from error
            raise failure(error) from error
        except BaseException:
            # A value that SQLite cannot hold, for one: the transaction must not stay open.
            self._roll_back()
            raise
        return result

    def _is_full(self, code: int) -> bool:
        """SQLite knows of full devices; a quota that is used up is to it a write that failed."""
        if code == sqlite3.SQLITE_IOERR_WRITE:
            return self._reserve.quota_is_used_up()
        return code & 0xFF == sqlite3.SQLITE_FULL

    def _roll_back(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreFailed(str(error)) from error

    def _checkpoint(self) -> None:
        """Give the log's room back; it may fail for want of room, and then later ones succeed."""
        with contextlib.suppress(sqlite3.OperationalError, OSError):
            self._before_cut()
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

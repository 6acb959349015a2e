"""A constant database under a name that another file takes now and then."""

from __future__ import annotations

import os
from pathlib import Path

from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError


class ReplacedCdb:
    """Always answers from the file that has the name now. Raises TableError while there is none to be read.

    Every look-up costs one stat beside its reads.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._table: Cdb | None = None
        self._signature = (0, 0, 0)

    def get(self, key: bytes) -> bytes | None:
        """The first value of ``key``, or None."""
        return self._current().get(key)

    def _current(self) -> Cdb:
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise TableError(f"unable to read {self._path}: {error.strerror}") from error
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._table is None or signature != self._signature:
            # The old table is closed when nobody looks into it any more.
            self._table = Cdb(self._path)
            self._signature = signature
        return self._table

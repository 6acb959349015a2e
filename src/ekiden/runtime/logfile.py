"""A log file that begins anew when it is full: ``NAME``, the one before it ``NAME.1``, then ``NAME.2`` and so on.

Only whole lines are written, unless the device takes part of one; then the rest follows when it can. A file that
cannot be renamed or created anew goes on growing: no line is lost for rotation's sake.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_MODE = 0o640


class LogFile:
    """The file ``path``, of at most ``limit`` octets, ``count`` files in all including the current one."""

    def __init__(self, path: Path, limit: int, count: int) -> None:
        self._path = path
        self._limit = limit
        self._count = count
        self._descriptor = -1
        self._size = 0

    def write(self, data: bytes) -> int:
        """Write lines from the front of ``data``; how many octets were taken. OSError if none could be."""
        if self._descriptor < 0:
            self._open()
        if self._size and not self._fitting(data):
            self._rotate()
        taken = os.write(self._descriptor, data[: self._fitting(data) or _first_line(data)])
        self._size += taken
        return taken

    def reopen(self) -> None:
        """Close the file, which somebody may have renamed; the next write opens ``path`` again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _fitting(self, data: bytes) -> int:
        """Octets of the whole lines at the front of ``data`` for which the current file has room."""
        room = self._limit - self._size
        if len(data) <= room:
            return len(data)
        return data.rfind(b"\n", 0, max(0, room)) + 1

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        try:
            self._shift()
        except OSError:
            # Not now; do not try again with every line.
            self._size = 0
            return
        full = self._descriptor
        try:
            self._open()
        except OSError:
            self._descriptor, self._size = full, 0
            return
        os.close(full)

    def _shift(self) -> None:
        """Free the name ``path``; the oldest files go."""
        number = 1
        while self._numbered(number).exists():
            number += 1
        for old in range(number - 1, 0, -1):
            if old + 1 >= self._count:
                with contextlib.suppress(FileNotFoundError):
                    self._numbered(old).unlink()
            else:
                self._numbered(old).rename(self._numbered(old + 1))
        self._path.rename(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _first_line(data: bytes) -> int:
    return data.find(b"\n") + 1 or len(data)

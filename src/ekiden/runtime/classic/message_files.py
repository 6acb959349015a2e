"""Messages as files, for as long as a spawner delivers them: queue/mess/SPLIT/N in the original's form.

The store keeps content where it likes; qmail-lspawn and qmail-rspawn want to open a file. As in qmail, a file's
number is its inode's, so that it never meets another's, not even one that the original qmail left in the same place.
It is made in queue/pid and linked to its name when it is whole, and removed by qmail-clean. It need not survive a
crash: the store is what is durable.
"""

from __future__ import annotations

import contextlib
import os
import time

from ekiden.delivery.content import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

SPLIT = 23
"""notqmail's conf-split."""

OSSIFIED = 129_600
"""Seconds after which a file that belongs to no message, or was not finished, can have no use (INTERNALS, 6)."""

DIRECTORIES = ("pid", "intd", "todo", "info", *(f"mess/{part}" for part in range(SPLIT)))
"""What must be there below the queue directory."""


class MessageFiles:
    """The files of messages that are being delivered. ``remove(number)`` has the file's removal done."""

    def __init__(self, queue: Path, remove: Callable[[int], None]) -> None:
        self._queue = queue
        self._remove = remove
        self._held: dict[int, list[int]] = {}
        self._made = 0

    def take(self, message: int, chunks: Callable[[], Iterable[bytes]]) -> bytes:
        """The name below mess/ of a file with the message, lines ended by LF; OSError if it cannot be made.

        To be given back with ``release`` as often as it was taken.
        """
        held = self._held.get(message)
        if held is None:
            held = self._held[message] = [self._make(chunks()), 0]
        held[1] += 1
        return b"%d/%d" % (held[0] % SPLIT, held[0])

    def release(self, message: int) -> None:
        """One delivery less."""
        held = self._held[message]
        held[1] -= 1
        if not held[1]:
            del self._held[message]
            self._remove(held[0])

    def _make(self, chunks: Iterable[bytes]) -> int:
        self._made += 1
        path = self._queue / "pid" / f"{os.getpid()}.{time.time_ns()}.{self._made}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            # qmailr reads it through its group; the directories keep everybody else out.
            os.fchmod(descriptor, 0o644)
            for chunk in chunks:
                write_all(descriptor, chunk)
            number = os.fstat(descriptor).st_ino
            os.link(path, self._queue / "mess" / str(number % SPLIT) / str(number))
        finally:
            os.close(descriptor)
            path.unlink()
        return number

    def leftovers(self, now: float) -> Iterator[int]:
        """Numbers of files that a crash left behind: old, of no delivery, and of no message of the original's."""
        ours = {number for number, _count in self._held.values()}
        for directory in (self._queue / "mess").iterdir():
            for path in directory.iterdir():
                with contextlib.suppress(OSError):
                    if path.name.isdecimal() and int(path.name) not in ours and self._is_forgotten(path, now):
                        yield int(path.name)

    def _is_forgotten(self, path: Path, now: float) -> bool:
        if now <= path.stat().st_atime + OSSIFIED:
            return False
        number = path.name
        places = (f"info/{int(number) % SPLIT}/{number}", f"todo/{number}", f"todo/{int(number) % SPLIT}/{number}")
        return not any((self._queue / place).exists() for place in places)

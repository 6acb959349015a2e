"""The fence of a process that delivers to one user's mailboxes: what its first delivery takes, and no more.

A delivery that runs a program needs a process without: what the program may do is the user's affair. So does one that
goes to other places than those inside; it ends with the verdict ELSEWHERE, before anything of it was done.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from ekiden.delivery.local import Plan
from ekiden.delivery.needs import Needs
from ekiden.delivery.report import DEFERRED, ELSEWHERE, Trouble
from ekiden.runtime.fences import isolation


class Fence:
    """Around this process, once ``admit`` has been told of a delivery that runs no program."""

    def __init__(self) -> None:
        self._open = False
        """Whether there is to be none."""
        self._held: dict[bytes, tuple[int, int] | None] | None = None
        self._forwards = False

    def leave_open(self) -> None:
        """Have no fence, unless there is one."""
        self._open = self._held is None

    def admit(self, planned: Plan | Trouble, home: bytes) -> None:
        """Before a delivery's content is looked at: it may go on if this returns. Raises Trouble."""
        if self._open:
            return
        if isinstance(planned, Trouble):
            # Without the fence it might be none.
            if self._held is not None and planned.verdict == DEFERRED:
                raise Trouble(ELSEWHERE, "")
            return
        needs = Needs(planned, home)
        if self._held is None:
            if needs.programs:
                self._open = True
            else:
                self._close(needs)
        elif not self._has_room(needs, self._held):
            raise Trouble(ELSEWHERE, "")

    def _has_room(self, needs: Needs, held: dict[bytes, tuple[int, int] | None]) -> bool:
        if needs.programs or (needs.forwards and not self._forwards):
            return False
        # A directory that was put in the place of the one that was there lies outside.
        return all(path in held and held[path] == _identity(path) for path in needs.places)

    def _close(self, needs: Needs) -> None:
        self._held = {path: _identity(path) for path in needs.places}
        self._forwards = needs.forwards
        reads = [Path(os.fsdecode(needs.control))] if needs.control else []
        if needs.dates:
            # The C library keeps the zone that it has read, if the file that TZ names cannot be seen any more.
            time.tzset()
            reads += isolation.ZONE
        parts = (os.path.join(path, part) for path in needs.places for part in (b"new", b"tmp", b"cur"))
        writes = [Path(os.fsdecode(path)) for path in (*needs.places, *filter(os.path.islink, parts))]
        try:
            isolation.shut()
            isolation.complete("forwarding" if needs.forwards else "delivery", reads, writes)
        except OSError as error:
            os.write(2, f"ekiden: local: process {os.getpid()} is not isolated: {error.strerror}\n".encode())


def _identity(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino

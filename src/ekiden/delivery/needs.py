"""What the instructions of a .qmail file take, for a process that is to be able to do nothing else."""

from __future__ import annotations

import os
import stat

from ekiden.delivery import dotqmail
from ekiden.delivery.quota import root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ekiden.delivery.local import Plan


class Needs:
    """``control``: the .qmail file, empty if there is none. ``places``: the Maildirs, the directories of mbox files
    and the devices that are written to. ``dates``: whether the local time is told. ``forwards``: whether the queue is
    to be reached. ``programs``: whether anything at all may be needed.
    """

    __slots__ = ("control", "dates", "forwards", "places", "programs")

    def __init__(self, planned: Plan, home: bytes) -> None:
        self.control = planned.path
        self.places: list[bytes] = []
        self.dates = self.forwards = self.programs = False
        for instruction in planned.instructions:
            if instruction.kind == dotqmail.MAILDIR:
                self._add_maildir(os.path.join(home, instruction.text))
            elif instruction.kind == dotqmail.MBOX:
                self._add_mbox(os.path.join(home, instruction.text))
            elif instruction.kind == dotqmail.FORWARD:
                self.forwards = True
            elif instruction.kind == dotqmail.PROGRAM:
                self.programs = True

    def _add_maildir(self, path: bytes) -> None:
        self.places.append(path)
        # Whose quota counts.
        if (whole := root(path)) != path.rstrip(b"/"):
            self.places.append(whole)

    def _add_mbox(self, path: bytes) -> None:
        self.dates = True
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            mode = stat.S_IFREG
        if stat.S_ISLNK(mode):
            self.places.append(os.path.dirname(os.path.realpath(path)))
        # Beside it is its lock; what is no file has none.
        self.places.append(os.path.dirname(path) if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else path)

"""The quotas of the Maildirs that one batch of deliveries goes to, as far as they have any."""

from __future__ import annotations

import os

from ekiden.delivery.quota import Counts, Locked, definition_of, root
from ekiden.delivery.report import deferred, failed, readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ekiden.delivery.local_limits import LocalLimits
    from ekiden.delivery.maildir import Draft

OVER = "The Maildir {} is over its quota. (#{}.2.2)"


class Quotas:
    """Opens each Maildir's counts when they are first asked for, and keeps them locked until the batch has ended."""

    def __init__(self, limits: LocalLimits) -> None:
        self._limits = limits
        self._opened: dict[bytes, Counts] = {}
        self._of: dict[bytes, Counts | None] = {}
        """By the path that a delivery names; several may lead to one Maildir."""

    def __enter__(self) -> Quotas:
        return self

    def __exit__(self, *exception: object) -> None:
        for counts in self._opened.values():
            counts.close()

    def admit(self, path: bytes, draft: Draft) -> None:
        """Make room for a message that was written; raises Trouble if there is none, OSError if it cannot be seen."""
        counts = self._counts(path)
        if counts is None:
            return
        if not counts.reserve(draft.octets):
            if self._limits.bounce_over_quota:
                raise failed(OVER.format(readable(path), 5))
            raise deferred(OVER.format(readable(path), 4))
        draft.tell_size()

    def count(self, path: bytes, draft: Draft) -> None:
        """A message was published."""
        counts = self._of.get(path)
        if counts is not None:
            counts.add(draft.octets, 1)

    def _counts(self, path: bytes) -> Counts | None:
        if path not in self._of:
            self._of[path] = self._open(path)
        return self._of[path]

    def _open(self, path: bytes) -> Counts | None:
        maildir = root(path)
        definition = definition_of(maildir, self._limits.quota)
        if not definition:
            return None
        maildir = os.path.realpath(maildir)
        try:
            if maildir not in self._opened:
                self._opened[maildir] = Counts(maildir, definition)
            return self._opened[maildir]
        except Locked:
            raise deferred(f"The Maildir {readable(path)} stayed locked by another delivery. (#4.2.1)") from None

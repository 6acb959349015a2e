"""The quotas of the Maildirs that one batch of deliveries goes to, as far as they have any."""

from __future__ import annotations

import os

from ekiden.delivery.quota import Ledger, Locked, definition_of, root
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
        self._ledgers: dict[bytes, Ledger] = {}
        self._of: dict[bytes, Ledger | None] = {}
        """By the path that a delivery names; several may lead to one Maildir."""

    def __enter__(self) -> Quotas:
        return self

    def __exit__(self, *exception: object) -> None:
        for ledger in self._ledgers.values():
            ledger.close()

    def admit(self, path: bytes, draft: Draft) -> None:
        """Make room for a message that was written; raises Trouble if there is none, OSError if it cannot be seen."""
        ledger = self._ledger(path)
        if ledger is None:
            return
        if not ledger.reserve(draft.octets):
            if self._limits.bounce_over_quota:
                raise failed(OVER.format(readable(path), 5))
            raise deferred(OVER.format(readable(path), 4))
        draft.tell_size()

    def count(self, path: bytes, draft: Draft) -> None:
        """A message was published."""
        ledger = self._of.get(path)
        if ledger is not None:
            ledger.add(draft.octets, 1)

    def _ledger(self, path: bytes) -> Ledger | None:
        if path not in self._of:
            self._of[path] = self._open(path)
        return self._of[path]

    def _open(self, path: bytes) -> Ledger | None:
        maildir = root(path)
        definition = definition_of(maildir, self._limits.quota)
        if not definition:
            return None
        maildir = os.path.realpath(maildir)
        try:
            if maildir not in self._ledgers:
                self._ledgers[maildir] = Ledger(maildir, definition)
            return self._ledgers[maildir]
        except Locked:
            raise deferred(f"The Maildir {readable(path)} stayed locked by another delivery. (#4.2.1)") from None

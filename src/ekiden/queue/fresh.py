"""Which messages hold their only part themselves, and the mark below which a start needs not look for any."""

from __future__ import annotations

from ekiden.queue.store import Changes

EVERY = 10_000
"""Ids after which the mark is noted anew."""


class Fresh:
    """Those that this run has made."""

    def __init__(self) -> None:
        self._messages: dict[int, None] = {}
        self._turns = (0, 0)
        """The first id that was free at the beginning of the turn before this one, and of this one."""
        self._marked = 0

    def mark(self, given: int) -> int | None:
        """Below which id there is none, once a turn, if that is to be noted; ``given``: the last id of a message.

        What was numbered in this turn or the one before may still come, and counts.
        """
        before, now = self._turns
        self._turns = (now, given + 1)
        mark = min(before, next(iter(self._messages), before))
        return mark if mark - self._marked >= EVERY else None

    def marked(self, mark: int) -> None:
        """It is durable."""
        self._marked = mark

    def follow(self, changes: Changes) -> None:
        """Keep in mind what a transaction has changed."""
        for row in changes.messages:
            if row[7] is not None:
                self._messages[row[0]] = None
        pop = self._messages.pop
        for (number,) in changes.removed:
            pop(number, None)
        for deferred in changes.deferred:
            pop(deferred[0], None)
        for part in changes.parts:
            pop(part[0], None)

    def forget(self, message: int) -> None:
        """Its part has a row of its own now."""
        self._messages.pop(message, None)

"""What the scheduler holds in memory: messages and parts at hand, and a lane per destination."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ekiden.base.envelope import Recipient
from ekiden.queue.backoff import FIRST_PAUSE, pause
from ekiden.queue.store import Ended, Meta


@dataclass(slots=True, eq=False)
class Message:
    """A message of which at least one part is at hand.

    ``left`` counts its parts in the store. ``content`` may have been dropped to save memory, and is read again when
    it is needed.
    """

    id: int
    birth: float
    sender: bytes
    size: int
    spool: str
    meta: Meta
    content: bytes | None
    left: int
    in_flight: int = 0
    at_hand: int = 0
    ended: list[Ended] = field(default_factory=list)
    withdrawn: bool = False
    """An administrator held, deleted or requeued it: what is still in flight no longer counts."""


@dataclass(slots=True, eq=False)
class Part:
    """Recipients of one message that go to one destination in one transaction."""

    message: Message
    number: int
    lane: Lane
    recipients: list[Recipient]
    attempts: int = 0
    stored: bool = True
    """Whether the store has a row for it; the only part of a new message is in the message's own."""


@dataclass(slots=True, eq=False)
class Lane:
    """One destination: its parts at hand, and what its recent attempts taught.

    ``window`` is how many transactions it may have at once: it grows with success and shrinks when the destination
    cannot be reached. ``answered``: when it last could. ``crowded``: once it could not while it had others.
    ``more``: the store may hold parts that are due now. ``next_due``: when, at the earliest, the store's others are
    due.
    """

    id: int
    key: bytes
    channel: str
    window: float
    waiting: deque[Part] = field(default_factory=deque)
    in_flight: int = 0
    in_ring: bool = False
    more: bool = False
    next_due: float = math.inf
    answered: float = -math.inf
    crowded: bool = False
    failures: int = 0
    paused_until: float = 0.0
    last: str = ""
    idle_since: float = 0.0
    aside: int = 0
    """How many of its parts that are due were set aside when the store was last asked."""

    @property
    def at_hand(self) -> int:
        """Parts in memory, waiting or in flight."""
        return len(self.waiting) + self.in_flight

    def reached(self, now: float, most: int) -> None:
        """The destination answered: it may have more transactions at once, up to ``most``; if it has refused one, not
        with each answer."""
        self.forgive()
        self.answered = now
        if self.channel == "remote" and self.window < most:
            self.window = min(self.window + (1 / self.window if self.crowded else 1), most)

    def unreachable(self, now: float, reason: str) -> None:
        """The destination could not be reached: it rests, each time longer, and starts again with one transaction.

        While it has others, or has just answered, it may only have had too many at once: it gets no more than that.
        """
        self.last = reason
        if now < self.paused_until:
            return
        if self.in_flight or now < self.answered + FIRST_PAUSE:
            self.crowded = True
            self.window = max(1.0, min(self.window, self.in_flight))
            return
        self.failures += 1
        self.paused_until = now + pause(self.failures)
        self.window = 1.0

    def forgive(self) -> None:
        """It need not rest any more."""
        self.failures = 0
        self.paused_until = 0.0

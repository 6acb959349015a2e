"""Memory of addresses that time out (tcpto), so that a dead host does not hold delivery slots.

As qmail-tcpto(8) says: an address that times out twice, at least two minutes apart and without an answer between, is
left alone for a while. The queue keeps the same table for all processes; this is the arithmetic on it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from ekiden.settings.schema import Settings

CAPACITY = 1000
"""Addresses remembered; the one that timed out longest ago makes room."""

APART = 120.0
"""Seconds within which another timeout says nothing new."""

_ENOUGH = 2
_MOST = 10


class Timeouts(msgspec.Struct, frozen=True):
    """``count`` timeouts in a row, the last that counted at ``since`` (seconds of the epoch)."""

    since: float
    count: int


class HostMemory:
    """What is known of addresses. One that timed out twice is left alone for ``seconds``; 0 remembers nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[str, Timeouts] = {}

    def is_dead(self, address: str, now: float) -> bool:
        """Whether to leave the address alone at ``now``."""
        known = self._believed(address, now)
        return known is not None and known.count >= _ENOUGH and now - known.since < self._seconds

    def timed_out(self, address: str, now: float) -> Timeouts | None:
        """Note a timeout; what is to be told to others, None if it changes nothing."""
        known = self._believed(address, now)
        if not self._seconds or (known is not None and now < known.since + APART):
            return None
        changed = Timeouts(now, min(known.count + 1, _MOST) if known is not None else 1)
        self.learn(address, changed)
        return changed

    def _believed(self, address: str, now: float) -> Timeouts | None:
        """What is known, unless it is of the future: then the clock has been set back since, or it is made up."""
        known = self._known.get(address)
        return known if known is not None and known.since <= now else None

    def answered(self, address: str) -> bool:
        """Note that the address answers; True if that is news."""
        return self._known.pop(address, None) is not None

    def entries(self) -> Iterator[tuple[str, Timeouts]]:
        """All that is known, by address."""
        return iter(self._known.items())

    def learn(self, address: str, timeouts: Timeouts) -> None:
        """Take over what another process found; a count of 0 forgets the address."""
        self._known.pop(address, None)
        if timeouts.count <= 0:
            return
        if len(self._known) >= CAPACITY:
            del self._known[min(self._known, key=lambda known: self._known[known].since)]
        self._known[address] = timeouts


def memory_for(settings: Settings) -> HostMemory:
    """The memory that tcptoseconds asks for; chance keeps all processes from coming back at once."""
    return HostMemory(settings.tcptoseconds * random.uniform(1.0, 1.5))

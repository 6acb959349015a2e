"""Slowing down those who guess passwords: arithmetic over failures of addresses and users; no clock of its own.

Each failure doubles the wait before the next attempt from the same address, and, up to a few seconds only, before the
next one for the same user, so that nobody can lock a user out by guessing. Attempts of one address wait behind each
other, however many connections it opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key", str, bytes)

FIRST_SECONDS = 1.0
ADDRESS_SECONDS = 60.0
USER_SECONDS = 4.0
FORGOTTEN_SECONDS = 900.0
FREE = 2
"""Failures that cost nothing more: everybody mistypes."""

TOO_LONG = 120.0
"""Seconds of waiting in line after which an attempt is refused without being looked at."""

REMEMBERED = 20_000


@dataclass
class _Record:
    failures: int = 0
    last: float = 0.0
    free_at: float = 0.0


class Throttle:
    """Times are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Record] = {}
        self._users: dict[bytes, _Record] = {}

    def wait(self, address: str, user: bytes, now: float) -> float | None:
        """Seconds until this attempt may be looked at; None if there are too many in line."""
        record = self._addresses.get(address)
        penalty = _penalty(record, now, ADDRESS_SECONDS)
        start = now
        if record is not None and penalty:
            start = max(now, record.free_at) + penalty
            if start - now > TOO_LONG:
                return None
            record.free_at = start
        return max(start - now, _penalty(self._users.get(user), now, USER_SECONDS))

    def failed(self, address: str, user: bytes, now: float) -> None:
        """The attempt was wrong."""
        _note(self._addresses, address, now)
        _note(self._users, user, now)

    def succeeded(self, user: bytes) -> None:
        """The attempt was right. The address is not forgiven: it may have guessed one user's password."""
        self._users.pop(user, None)


def _penalty(record: _Record | None, now: float, most: float) -> float:
    if record is None or record.failures <= FREE or now - record.last > FORGOTTEN_SECONDS:
        return 0.0
    return min(most, FIRST_SECONDS * 2.0 ** min(record.failures - FREE - 1, 20))


def _note(records: dict[Key, _Record], key: Key, now: float) -> None:
    record = records.pop(key, None) or _Record()
    if now - record.last > FORGOTTEN_SECONDS:
        record = _Record()
    record.failures += 1
    record.last = now
    # The oldest are in front.
    while len(records) >= REMEMBERED:
        del records[next(iter(records))]
    records[key] = record

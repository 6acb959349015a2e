"""When to try again: qmail's quadratic back-off (qmail-send.9, qmail-control.9 queuelifetime), as arithmetic.

All times are seconds of the epoch. Nothing here looks at a clock.
"""

from __future__ import annotations

import math

FIRST_PAUSE = 10.0
"""Seconds for which a destination is left alone after its first failure to be reached."""

LONGEST_PAUSE = 3600.0
"""Seconds; the pause doubles with each further failure up to this."""

SET_BACK = 60.0
"""Seconds that the clock may be set back without anything being done about it."""


def next_attempt(birth: float, now: float, skip: int) -> float:
    """When a delivery that failed for now is due again.

    The n-th retry comes about ``(n * skip)`` squared seconds after birth: the square root of the message's age grows
    by ``skip`` (10 for local, 20 for remote deliveries by default), so that retries thin out as a message ages.
    """
    # A message of the future came while the clock was wrong: it is as if it came now.
    birth = min(birth, now)
    return birth + (math.isqrt(int(now - birth)) + skip) ** 2


def longest_wait(lifetime: int, skip: int) -> float:
    """The most seconds between now and the next attempt for a message that has not outlived ``lifetime``."""
    return 2 * math.sqrt(lifetime) * skip + skip**2


def expired(birth: float, now: float, lifetime: int) -> bool:
    """Whether a message that fails for now is to be given up."""
    return now > birth + lifetime


def pause(failures: int) -> float:
    """How many seconds a destination rests after the ``failures``-th failure in a row to reach it."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 20))

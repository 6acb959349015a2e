"""Messages that are set aside: what is stored of them is not what was written, and all others go on.

Nobody gets them, and they stay as they are, so that ``ekiden queue recover`` finds them. Each is named once, and read
again whenever its destination is looked at, because a read that fails once looks the same. Where there are many it is
the file that is damaged, and not a row.
"""

from __future__ import annotations

from collections.abc import Callable

from ekiden.queue.store import RowDamaged

MOST = 100
"""Messages that are set aside in one run of the queue role."""


class Aside:
    """Those of one run. ``alert`` is told of each."""

    def __init__(self, alert: Callable[[str], None]) -> None:
        self._alert = alert
        self._named: set[int] = set()

    def add(self, fault: RowDamaged) -> None:
        """Set a message aside; raises what is wrong with it if there are too many."""
        if fault.message in self._named:
            return
        if len(self._named) >= MOST:
            raise fault
        self._named.add(fault.message)
        self._alert(f"set aside: {fault}")

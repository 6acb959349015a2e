"""What every look-up table offers, whatever it is made of."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol


class TableError(Exception):
    """The table cannot answer now: unreadable or damaged. The asker tries later; it is never "not found"."""


if TYPE_CHECKING:

    class Table(Protocol):
        """Octets to octets."""

        def get(self, key: bytes) -> bytes | None:
            """The first value of ``key``, None if it has none; TableError if that cannot be said now."""

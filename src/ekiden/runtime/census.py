"""Who is connected, over all processes that serve the same listeners: a table in memory that they share.

Each process writes only its own column, so that nothing has to be locked; the sum of a row is how many there are.
Listeners have a row each. Clients share rows by the hash of their address. A process knows its own clients exactly,
and of the others' it may take two for one, so that a limit is never exceeded, and met too early very rarely. The
supervisor clears the column of a process that has ended, however it ended.
"""

from __future__ import annotations

import array
import mmap
import struct
from collections import Counter

LISTENERS = 256
CLIENTS = 16_384

_ROWS = LISTENERS + CLIENTS
_CELL = 4


class Table:
    """The table; ``columns`` processes may count at the same time. Made before they are forked."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        # Pages that nobody has written to take no memory.
        self.cells = memoryview(mmap.mmap(-1, _ROWS * columns * _CELL)).cast("I")
        self._free = list(range(columns))
        self._listeners: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether no further process can count here."""
        return not self._free

    def column(self) -> int:
        """A column that nobody has. IndexError if there is none."""
        return self._free.pop(0)

    def clear(self, column: int) -> None:
        """Take a column back: nobody that it counted is there any more."""
        self.cells[column :: self.columns] = memoryview(array.array("I", bytes(_ROWS * _CELL)))
        self._free.append(column)

    def listener(self, where: str) -> int:
        """The row of a listener by its address, the same for as long as the table is there."""
        return self._listeners.setdefault(where, len(self._listeners) % LISTENERS)


class Census:
    """What one process counts, and what it knows of the others. Without a table it counts for itself alone."""

    def __init__(self, table: Table | None = None, column: int = 0) -> None:
        self._table = table = table or Table(1)
        self._column = column
        self._row = struct.Struct(f"{table.columns}I")
        self._own: Counter[str] = Counter()

    def enter(self, listener: str, client: str) -> tuple[int, int]:
        """One more client of this address; how many the listener and the address have now, this one counted.

        Who finds them too many calls ``leave``: so two processes can never both take the last place.
        """
        self._own[client] += 1
        mine, at_listener = self._add(self._table.listener(listener), 1)
        mine, of_client = self._add(_row_of(client), 1)
        return at_listener, of_client - mine + self._own[client]

    def leave(self, listener: str, client: str) -> None:
        """A client that had entered is gone."""
        self._own[client] -= 1
        if not self._own[client]:
            del self._own[client]
        self._add(self._table.listener(listener), -1)
        self._add(_row_of(client), -1)

    def _add(self, row: int, number: int) -> tuple[int, int]:
        """Count in a row; this process's part of it, and the whole."""
        start = row * self._table.columns
        cells = self._table.cells
        cells[start + self._column] += number
        return cells[start + self._column], sum(self._row.unpack_from(cells, start * _CELL))


def _row_of(client: str) -> int:
    """The hash is the same in all processes of one supervisor, and another in every other."""
    return LISTENERS + hash(client) % CLIENTS

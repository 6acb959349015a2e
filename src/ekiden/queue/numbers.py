"""Ids that are never given twice, even for a message that is long gone: of messages, destinations and later parts.

They are noted as used ten thousand at a time before any of them is given, so that a crash only skips some.
"""

from __future__ import annotations

import contextlib
import sqlite3

from ekiden.queue.damage import SHOWN
from ekiden.queue.database import Database
from ekiden.queue.store import NO_END, StoreDamaged, StoreFull

SET_ASIDE = 10_000
"""Ids noted as used at once."""

_TAKEN = {
    name: "SELECT max(taken) FROM ("
    + " UNION ALL ".join(
        f"SELECT max({column}) AS taken FROM {table} WHERE {column} > ?1 AND {column} <= ?1 + {SET_ASIDE}"
        for table, column in columns
    )
    + ")"
    for name, columns in (
        ("message", (("message", "id"), ("part", "message"), ("ledger", "message"))),
        ("destination", (("destination", "id"),)),
    )
}
"""The highest id that is used among those about to be noted."""

_SPARE = 5000
"""Ids that are left when more are noted, for the notices of as many deliveries under way."""

_TOLD = "INSERT OR REPLACE INTO sequence SELECT 'told', last FROM sequence WHERE name = 'message'"
"""All messages so far are known to the queue role, which has logged that they are new. So are all with ids that it
has noted: what comes while it does not run is numbered above them."""


class Numbers:
    """Those of one open store. ``StoreFull`` and ``StoreFailed`` where more cannot be noted."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._given: dict[str, tuple[int, int]] = {}
        """By name: the last that was given in this run, and the last that is noted as used."""
        self._is_role = False

    def noted(self, name: str) -> int:
        """The highest that the file has under this name; 0 if there is none. ``StoreDamaged`` if it cannot be."""
        last = self._db.one("SELECT max(last) FROM sequence WHERE name = ?", name) or 0
        if not isinstance(last, int) or not 0 <= last < NO_END - SET_ASIDE:
            raise StoreDamaged(f"{SHOWN}: the last number of a {name} cannot be {last!r}")
        return last

    def given(self, name: str) -> int:
        """The last one that was given in this run; 0 if none was."""
        return self._given.get(name, (0, 0))[0]

    def next(self, name: str) -> int:
        """The next one."""
        used, noted = self._given.get(name, (0, 0))
        if used >= noted:
            used = self._free_after(name, self.noted(name))
            noted = self._note(name, used)
        elif noted - used <= _SPARE and self._free_after(name, noted) == noted:
            # Early: on a full device there are still some for the notices of what is being delivered.
            with contextlib.suppress(StoreFull):
                noted = self._note(name, noted, may_use_reserve=False)
        self._given[name] = (used + 1, noted)
        return used + 1

    def _free_after(self, name: str, last: int) -> int:
        """From here on as many ids are free as are noted at once: the last number may have been set back."""
        taken = _TAKEN.get(name)
        while taken and (found := self._db.one(taken, last)) is not None:
            last = found
        return last

    def _note(self, name: str, after: int, may_use_reserve: bool = True) -> int:
        """Make more durable as used; the last of them."""
        last = after + SET_ASIDE

        def note(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO sequence VALUES (?, ?)", (name, last))
            if self._is_role:
                db.execute(_TOLD)

        self._db.write(note, may_use_reserve)
        return last

    def be_role(self, db: sqlite3.Connection) -> None:
        """In a transaction: whoever numbers from now on is the queue role, which logs what is new."""
        self._is_role = True
        db.execute(_TOLD)

    def give_back(self, db: sqlite3.Connection) -> None:
        """In the last transaction: what was noted and not given is not used."""
        db.executemany(
            "UPDATE sequence SET last = ? WHERE name = ?", [(g, name) for name, (g, _) in self._given.items()]
        )
        if self._is_role:
            db.execute(_TOLD)

"""Every row that can be read in a damaged store: by its trees, and where one is broken by looking at every page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from ekiden.queue.damage import roots, schema
from ekiden.queue.pages import INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE, Cell, Node, PageFile, Value

Columns = dict[str, list[str]]
"""Names of columns by table, in the order of a row's values."""

_LOCKING = 1 << 30
"""The page at this offset is never used: SQLite locks its octets."""

_NO_END = 1 << 62
"""Above every row id."""

_OF_TABLE = frozenset({"message", "destination"})
"""Tables whose rows have a row id, which is their ``id``; the others are their primary key's tree."""


@dataclass
class Row:
    """``sure``: it is part of the store as it was last; else it may have been removed, or changed since.

    ``whole``: all values could be read.
    """

    values: dict[str, Value]
    sure: bool
    whole: bool = True


@dataclass
class Salvaged:
    """Rows by table, what is wrong, in words, and the tables of which all rows were read."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)

    def of(self, table: str) -> list[Row]:
        """Of rows found twice those that are sure come last."""
        return sorted(self.rows.get(table, []), key=lambda row: (row.sure, row.whole))


@dataclass(frozen=True)
class Today:
    """The tables that ekiden makes today: their columns, and the page at which each table and index begins in a new
    store, for what the file itself does not say."""

    columns: Columns
    roots: dict[str, int]


def salvage(file: PageFile, today: Today) -> Salvaged:
    """Read all that there is."""
    return _Salvage(file, today).read()


class _Salvage:
    def __init__(self, file: PageFile, today: Today) -> None:
        self._file = file
        self._columns = today.columns | _own_columns(file)
        self._roots = {"schema": 1} | today.roots | dict(roots(file))
        self._unsaid = today.roots.keys() - dict(roots(file)).keys()
        self._found = Salvaged()
        self._used: set[int] = set()
        self._free, self._free_whole = file.free() if file.has_header else (set(), False)

    def read(self) -> Salvaged:
        file, damage = self._file, self._found.damage
        if file.log.damage:
            damage.append(f"write-ahead log: {file.log.damage}")
        if not file.has_header or self._unsaid:
            damage.append("the file's first page is damaged")
        elif not self._free_whole:
            damage.append("the list of free pages is damaged")
        if file.pages > file.last():
            damage.append(f"{file.pages - file.last()} pages are missing")
        count = len(damage)
        for name, root in self._roots.items():
            self._read_tree(name, root)
        lost = self._lost()
        if lost and self._free_whole:
            damage.append(f"{len(lost)} pages are in no tree")
        if len(damage) > count or file.log.damage:
            self._read_lost(lost)
        return self._found

    def _lost(self) -> list[int]:
        """What hangs on a page that cannot be read is in no tree, and not free either."""
        never = _LOCKING // self._file.page_size + 1
        numbers = range(2, self._file.last() + 1)
        return [one for one in numbers if one not in self._used and one not in self._free and one != never]

    def _read_lost(self, lost: list[int]) -> None:
        """Where it is not known what is free, a page in no tree may be what was removed long ago."""
        sure = self._free_whole and not self._file.log.damage
        for number in lost:
            if number not in self._used:
                self._read_lost_page(number, sure)

    def _read_tree(self, name: str, root: int) -> None:
        if name == "schema" and not self._file.has_header:
            self._used.add(root)
            return
        count = len(self._found.damage)
        self._walk(name, root)
        if len(self._found.damage) == count and not self._file.log.damage:
            self._found.whole.add(name)

    def _walk(self, name: str, root: int) -> None:
        kinds = (INTERIOR_TABLE, LEAF_TABLE) if name in _OF_TABLE | {"schema"} else (INTERIOR_INDEX, LEAF_INDEX)
        waiting = [(root, -1, _NO_END)]
        while waiting:
            number, after, until = waiting.pop()
            if number in self._used or not self._file.is_there(number):
                self._found.damage.append(f"a page of {name} is damaged: it leads to page {number}")
                continue
            node = self._file.node(number)
            if node is None or node.kind not in kinds:
                self._found.damage.append(f"page {number} of {name} is damaged")
                continue
            if node.cells and not self._belongs(node, name):
                # It is read with the pages that no tree leads to.
                self._found.damage.append(f"page {number} of {name} is another table's")
                continue
            self._used.add(number)
            ends = [after, *node.keys, until] if node.keys else [after, *(until for _ in node.children)]
            waiting += zip(node.children, ends, ends[1:], strict=False)
            self._note_entries(node, number, name)
            if name in self._columns:
                sure = number not in self._free and number not in self._file.log.doubtful
                self._take(node, name, sure, after, until)

    def _belongs(self, node: Node, name: str) -> bool:
        """Whether entries look like this tree's: a row of this table, or no row of those that have no row ids."""
        if name in self._columns:
            return any(self._row(cell, name) is not None for cell in node.cells)
        return name == "schema" or not any(self._table(node.kind, cell) in ("part", "ledger") for cell in node.cells)

    def _row(self, cell: Cell, name: str) -> dict[str, Value] | None:
        """A cell's values by their columns; None if they are of no row of that table."""
        named = _as_octets(name, self._named(cell, name))
        return named if fits(name, named, cell.values is not None) else None

    def _named(self, cell: Cell, name: str) -> dict[str, Value]:
        values = cell.values if cell.values is not None else cell.beginning
        named = dict(zip(self._columns[name], values, strict=False))
        if name in _OF_TABLE:
            named["id"] = cell.rowid
        return named

    def _note_entries(self, node: Node, number: int, name: str) -> None:
        broken = node.unread + sum(cell.values is None for cell in node.cells)
        if broken:
            self._found.damage.append(f"{broken} entries on page {number} of {name} are damaged")
        for cell in node.cells:
            self._used.update(cell.overflow)

    def _take(self, node: Node, name: str, sure: bool, after: int = -1, until: int = _NO_END) -> None:
        """Take a page's entries; the row ids of a table's are above ``after`` and up to ``until``."""
        rows = self._found.rows.setdefault(name, [])
        misplaced = _misplaced(node, after, until) if name in _OF_TABLE else set()
        strange = sum(cell.values is not None and self._row(cell, name) is None for cell in node.cells)
        if strange:
            self._found.damage.append(f"{strange} entries of {name} have values that cannot be")
        if misplaced:
            self._found.damage.append(f"{len(misplaced)} entries of {name} are not in their order")
        mended = 0
        for place, cell in enumerate(node.cells):
            if (row := self._row(cell, name)) is not None:
                values = _mended(name, row)
                mended += values != self._named(cell, name)
                rows.append(Row(values, sure and place not in misplaced, cell.values is not None))
        if mended:
            self._found.damage.append(f"{mended} entries of {name} have values of another kind")

    def _read_lost_page(self, number: int, sure: bool) -> None:
        """A page of which no tree knows. What its rows look like tells which table they are of."""
        node = self._file.node(number)
        if node is None or node.kind == INTERIOR_TABLE:
            return
        for cell in node.cells:
            self._used.update(cell.overflow)
            if (name := self._table(node.kind, cell)) is not None:
                self._take(Node(node.kind, cells=[cell]), name, sure)

    def _table(self, kind: int, cell: Cell) -> str | None:
        if cell.values is None:
            return None
        for name, names in self._columns.items():
            if (name in _OF_TABLE) == (kind == LEAF_TABLE) and len(names) == len(cell.values):
                named = dict(zip(names, cell.values, strict=True)) | ({"id": cell.rowid} if name in _OF_TABLE else {})
                if fits(name, named, True) and (name not in _OF_TABLE or cell.values[0] is None):
                    return name
        return None


def _misplaced(node: Node, after: int, until: int) -> set[int]:
    """Cells whose row id cannot be right: without them the others are in their order."""
    ids = [after, *(cell.rowid for cell in node.cells), until + 1]
    return {
        place - 1
        for place in range(1, len(ids) - 1)
        if ids[place - 1] < ids[place + 1] and not ids[place - 1] < ids[place] < ids[place + 1]
    }


_TYPES: dict[str, dict[str, type | tuple[type, ...]]] = {
    # A birth that is none can be mended; without a size the content is kept for a person.
    "message": {"id": int, "sender": bytes, "meta": bytes},
    "part": {"message": int, "part": int, "destination": int, "attempts": int, "recipients": bytes, "last": str},
    "destination": {"id": int, "key": bytes},
    "ledger": {"message": int, "part": int, "attempt": int, "at": (int, float), "entry": bytes},
    "foreign_message": {"key": bytes, "message": int},
    "sequence": {"name": str, "last": int},
}


_OPTIONAL: dict[str, dict[str, type | tuple[type, ...]]] = {
    "message": {
        "size": int,
        "spool": str,
        "segment": int,
        "at": int,
        "ended": bytes,
        "destination": int,
        "recipients": bytes,
        "content": bytes,
    },
    "part": {"due": (int, float)},
}


_SEALED = {
    "message": ("sender", "meta"),
    "part": ("recipients",),
    "destination": ("key",),
    "ledger": ("entry",),
}
"""Columns whose octets have a check."""


def _as_octets(name: str, values: dict[str, Value]) -> dict[str, Value]:
    """A row with octets where they have become a text, as by one bit: their check tells whether they are right."""
    octets = {column: values.get(column) for column in _SEALED.get(name, ())}
    return values | {column: value.encode() for column, value in octets.items() if isinstance(value, str)}


def _mended(name: str, values: dict[str, Value]) -> dict[str, Value]:
    """A row without values that cannot be: damage makes of NULL a number."""
    types = _OPTIONAL.get(name, {})
    return {
        column: value if isinstance(value, types.get(column, object)) else None for column, value in values.items()
    }


_SEQUENCES = ("message", "destination", "part", "mark", "told", "ledger", "since")


def fits(name: str, values: dict[str, Value], whole: bool) -> bool:
    """Whether values can be a row of that table; of one that is not whole, what there is of it."""
    types = _TYPES.get(name)
    if types is None or (whole and not types.keys() <= values.keys()):
        return False
    if name == "sequence" and "name" in values and values["name"] not in _SEQUENCES:
        return False
    last = values.get("last")
    if name == "sequence" and isinstance(last, int) and not 0 <= last < _NO_END:
        return False
    return all(isinstance(values[column], kind) for column, kind in types.items() if column in values)


def _own_columns(file: PageFile) -> Columns:
    """What the file's own schema says: tables that an earlier version made have their columns in another order."""
    found: Columns = {}
    for kind, name, _table, _root, statement in schema(file):
        if kind == "table":
            found.update(_columns_of(str(name), str(statement)))
    return found


_DEFINES_A_TABLE = frozenset(
    {
        *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE),
        *(sqlite3.SQLITE_READ, sqlite3.SQLITE_PRAGMA),
    }
)
"""What SQLite does for such a statement. The file may say anything, and whoever reads it may be root."""


def _columns_of(name: str, statement: str) -> Iterator[tuple[str, list[str]]]:
    if name not in _TYPES or not statement.upper().startswith("CREATE TABLE "):
        return
    db = sqlite3.connect(":memory:")
    db.set_authorizer(lambda does, *_: sqlite3.SQLITE_OK if does in _DEFINES_A_TABLE else sqlite3.SQLITE_DENY)
    try:
        db.execute(statement)
        names = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
        if _TYPES[name].keys() <= set(names):
            yield name, names
    except sqlite3.Error:
        return
    finally:
        db.close()

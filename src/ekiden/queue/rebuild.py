"""A new store of what was saved, made beside the damaged one, and its taking the other's place.

``build`` makes it in ``queue/recovering/``; the old store is not touched, so that a crash leaves it whole. When the
new one is complete and durable the directory is renamed to ``queue/recovered/``: from then on nothing but ``finish``
is left to do, which can be interrupted and done again. The old store goes, never removed, into ``queue/damaged-N/``.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ekiden.queue import ledger
from ekiden.queue.damage import FILE, RECOVERED, mark_closed
from ekiden.queue.keeping import MESSAGES, make_durable
from ekiden.queue.ledger import Entry
from ekiden.queue.pages import Value
from ekiden.queue.recovery import RECOVERY, Message, Recovery
from ekiden.queue.salvage import Salvaged, Today
from ekiden.queue.sealing import encode_recipients, key_check
from ekiden.queue.sqlite import LATER_PARTS, SQLiteStore

RECOVERING = "recovering"
DAMAGED = "damaged-"

_SKIPPED = 100_000
"""Ids left out after the highest that was seen, so that none that was lost is used again."""


def today(directory: Path) -> Today:
    """What a new store is like; makes and removes one."""
    db = _empty(directory)
    made = db.execute("SELECT type, name, rootpage FROM sqlite_schema").fetchall()
    names = [name for kind, name, _root in made if kind == "table"]
    columns = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in names}
    db.close()
    shutil.rmtree(directory / RECOVERING)
    return Today(columns, {name: root for _kind, name, root in made})


def _empty(directory: Path) -> sqlite3.Connection:
    """A store without anything, open, in ``recovering/``."""
    place = directory / RECOVERING
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    SQLiteStore(place).close()
    return sqlite3.connect(place / FILE, isolation_level=None)


def build(directory: Path, recovery: Recovery, now: float) -> None:
    """Make the new store, durable but not in its place yet. OSError, sqlite3.Error."""
    db = _empty(directory)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("BEGIN")
    destinations = {key: number for number, key in enumerate(_keys(recovery), _highest(recovery, "destination") + 1)}
    for number, message in recovery.messages.items():
        _insert(db, "message", message.values | {"held": int(message.held), "destination": None, "recipients": None})
        for row in _parts(number, message, destinations):
            _insert(db, "part", row)
        if message.ends:
            entry = ledger.encode(Entry(message.ends), number, RECOVERY)
            row = {"message": number, "part": RECOVERY, "attempt": 0, "at": now, "entry": entry}
            _insert(db, "ledger", row)
    for key, number in destinations.items():
        _insert(db, "destination", {"id": number, "key": key, "due": 0, "seal": key_check(key, number)})
    for name in ("ledger", "foreign_message"):
        for found in recovery.found.of(name):
            if found.whole:
                _insert(db, name, found.values)
    for name, kind in (("message", "message"), ("told", "message"), ("destination", "destination")):
        _insert(db, "sequence", {"name": name, "last": _highest(recovery, kind) + _SKIPPED})
    _insert(db, "sequence", {"name": "part", "last": _highest_part(recovery) + _SKIPPED})
    for name, last in _reach(recovery.found):
        _insert(db, "sequence", {"name": name, "last": last})
    db.execute("COMMIT")
    # The last to close the file takes its log into it.
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def _reach(found: Salvaged) -> list[tuple[str, int]]:
    """From where on the ledger knows who left the queue, if all of it could be read."""
    rows = {row.values.get("name"): row.values.get("last") for row in found.of("sequence") if row.whole}
    known = [(name, last) for name in ("ledger", "since") if isinstance(last := rows.get(name), int)]
    return known if len(known) == 2 and {"ledger", "sequence"} <= found.whole else []


def _keys(recovery: Recovery) -> dict[bytes, None]:
    return {part.key: None for message in recovery.messages.values() for part in message.parts}


def _parts(number: int, message: Message, destinations: dict[bytes, int]) -> Iterator[dict[str, Value]]:
    birth = message.values["birth"]
    for part in message.parts:
        yield {
            "message": number,
            "part": part.number,
            "destination": destinations[part.key],
            "due": None if message.held else birth if part.due is None else part.due,
            "attempts": part.attempts,
            "recipients": encode_recipients(part.recipients, number, destinations[part.key]),
            "last": part.last,
        }


def _highest(recovery: Recovery, name: str) -> int:
    """The highest id of which anything is known."""
    seen = [row.values.get("last") for row in recovery.found.of("sequence") if row.values.get("name") == name]
    seen += [row.values.get("id") for row in recovery.found.of(name)]
    if name == "message":
        for table in ("part", "ledger", "foreign_message"):
            seen += [row.values.get("message") for row in recovery.found.of(table)]
        seen += [finding.message for finding in recovery.findings]
    # What damage made of a number is no reason to leave out all that there are.
    return max((number for number in seen if isinstance(number, int) and number < 1 << 48), default=0)


def _highest_part(recovery: Recovery) -> int:
    """The highest number that a message got for a part later on; 0 if none is left."""
    numbers = [part.number - LATER_PARTS for message in recovery.messages.values() for part in message.parts]
    return max((number for number in numbers if 0 < number < 1 << 48), default=0)


def _insert(db: sqlite3.Connection, table: str, row: Mapping[str, Value]) -> None:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    db.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def put_in_place(directory: Path, keep: Callable[[Path], None]) -> Path:
    """Let the store that was built take the damaged one's place; where the old one is now. OSError.

    ``keep`` is called before, with the directory in which what could not be saved is to be kept.
    """
    aside = next(path for number in range(1, 1000) if not (path := directory / f"{DAMAGED}{number}").exists())
    (aside / "segments").mkdir(mode=0o700, parents=True)
    for name in _files(directory):
        os.link(directory / name, aside / name)
    keep(aside / MESSAGES)
    new = directory / RECOVERING
    for name in os.listdir(new):
        if name != FILE:
            shutil.rmtree(new / name) if (new / name).is_dir() else (new / name).unlink()
    (new / "aside").write_text(aside.name)
    for path in (new / FILE, new / "aside", new, aside / "segments", aside, directory):
        make_durable(path)
    new.rename(directory / RECOVERED)
    make_durable(directory)
    return finish(directory)


def finish(directory: Path) -> Path:
    """The rest, which may have been begun before: the new store is complete, the old one has its second name."""
    new = directory / RECOVERED
    aside = directory / (new / "aside").read_text()
    if (new / FILE).exists():
        _keep_leftovers(directory, new / FILE, aside)
        (directory / f"{FILE}-wal").unlink(missing_ok=True)
        make_durable(directory)
        (new / FILE).rename(directory / FILE)
        make_durable(directory)
    mark_closed(directory)
    shutil.rmtree(new)
    make_durable(directory)
    return aside


def _keep_leftovers(directory: Path, store: Path, aside: Path) -> None:
    """Put large contents aside that no message names any more: they may be of those that could not be saved."""
    db = sqlite3.connect(f"file:{store}?mode=ro&immutable=1", uri=True)
    named = {name for (name,) in db.execute("SELECT spool FROM message WHERE spool IS NOT NULL")}
    db.close()
    (aside / "spool").mkdir(mode=0o700, exist_ok=True)
    for name in os.listdir(directory / "spool") if (directory / "spool").is_dir() else []:
        if name not in named:
            (directory / "spool" / name).rename(aside / "spool" / name)
    make_durable(aside / "spool")


def unnamed(directory: Path, found: Salvaged) -> list[str]:
    """Large contents, in files of their own and in segments, that no row names which could be read."""
    rows = [row.values for row in found.of("message")]
    named = {("spool", str(values.get("spool"))) for values in rows}
    named |= {("segments", str(values.get("segment"))) for values in rows}
    there = [path for kind in ("spool", "segments") for path in sorted((directory / kind).glob("*"))]
    return [
        f"{path.parent.name}/{path.name}"
        for path in there
        if path.is_file() and path.stat().st_size and (path.parent.name, path.name) not in named
    ]


def _files(directory: Path) -> list[str]:
    """What is kept of the damaged store; of segments what no message holds that was saved stays as it was."""
    segments = [str(path.relative_to(directory)) for path in directory.glob("segments/*")]
    return [name for name in (FILE, f"{FILE}-wal", *segments) if (directory / name).is_file()]

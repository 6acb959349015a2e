"""Bits that flip in a stored envelope: nobody gets what was not sent to him, and the damage is named."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ekiden.base.outcome import Outcome
from ekiden.commands import run_command
from ekiden.queue.audit import audit
from ekiden.queue.damage import FILE
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import StoreDamaged

from .test_engine import LATER, NEVER, OK, World, to
from .test_sqlite import KEY_INDEX, flip

SETTINGS = {
    "smtproutes": {b"one.example": b"192.0.2.1", b"two.example": b"192.0.2.2", b"": b"192.0.2.9"},
    "locals": frozenset({b"here.example"}),
}
FIRST, AGAIN = 1000.0, 500_000.0
Mail = tuple[bytes, bytes, bytes]
"""Sender, recipient, and the key of the destination that it goes to."""

COLUMNS = (
    ("message", "sender"),
    ("message", "meta"),
    ("message", "recipients"),
    ("message", "ended"),
    ("part", "recipients"),
    ("destination", "key"),
    ("ledger", "entry"),
)
SAMPLE = 60
"""Bits of each column that are tried without ``--every-point``."""


@dataclass(frozen=True)
class Queue:
    """A stopped queue: whom it is to deliver to, the octets of each column, and of those that are no longer used."""

    home: Path
    mail: frozenset[Mail]
    octets: dict[tuple[str, str], set[bytes]]
    unused: set[bytes]


def drain(world: World, seen: set[Mail]) -> None:
    """Start and deliver all; whom to is put down."""
    world.store.recover()
    world.engine.recover(AGAIN)
    for _ in range(10):
        world.engine.tick(AGAIN)
        for part, envelope in world.turn(AGAIN):
            seen.update((envelope.sender, one.address, part.lane.key) for one in part.recipients)
            world.engine.report(part, [OK] * len(part.recipients), False, AGAIN)
        world.engine.commit()


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Queue:
    """New mail, deferred mail with several parts, mail of which some has ended, and a notice still to be made."""
    home = tmp_path_factory.mktemp("flipped")
    (home / "control").mkdir()
    (home / "control" / "me").write_text("me\n")
    (home / "control" / "locals").write_text("here.example\n")
    (home / "control" / "smtproutes").write_text("one.example:192.0.2.1\ntwo.example:192.0.2.2\n:192.0.2.9\n")
    (home / "queue").mkdir()
    world = World(home / "queue", **SETTINGS)
    kept = to(b"later@one.example"), to(b"later@two.example"), to(b"ok@two.example"), to(b"later@here.example")
    world.inject(*kept, sender=b"s1@example.org")
    world.inject(to(b"later@one.example"), to(b"no@one.example"), to(b"late@two.example"), sender=b"s2@example.org")
    world.inject(to(b"later@three.example"), sender=b"s3@example.org")
    outcomes = {b"later": LATER, b"no": NEVER}
    for part, _envelope in world.turn(FIRST):
        if part.recipients[0].address != b"late@two.example":
            known: list[Outcome] = [outcomes.get(one.address.partition(b"@")[0], OK) for one in part.recipients]
            world.engine.report(part, known, False, FIRST)
    world.engine.commit()
    world.open = []
    for number, whom in enumerate((b"new@one.example", b"new@here.example", b"new@elsewhere.example")):
        world.inject(to(whom), sender=b"new%d@example.org" % number)
    world.turn(FIRST)
    connection = world.store._db.connection
    octets = {
        (table, column): {row[0] for row in connection.execute(f"SELECT {column} FROM {table}") if row[0] is not None}
        for table, column in COLUMNS
    }
    own = "SELECT recipients FROM message WHERE EXISTS (SELECT 1 FROM part WHERE part.message = message.id)"
    unused = {row[0] for row in connection.execute(own) if row[0] is not None}
    world.store.close()
    seen: set[Mail] = set()
    copy = home / "copy"
    shutil.copytree(home / "queue", copy)
    drain(World(copy, **SETTINGS), seen)
    assert {whom for _sender, whom, _key in seen} >= {b"late@two.example", b"s2@example.org", b"later@here.example"}
    return Queue(home, frozenset(seen), octets, unused)


def places(data: bytes, octets: set[bytes]) -> list[tuple[int, bytes]]:
    """Where any of these begin in the file."""
    found = []
    for each in octets:
        at = data.find(each)
        while at >= 0:
            found.append((at, each))
            at = data.find(each, at + 1)
    return sorted(found)


def damaged(queue: Queue, tmp_path: Path, column: tuple[str, str], every: bool) -> Iterator[tuple[Path, bytes]]:
    """Copies of the queue, in each of which another bit is not what it was; and the octets that it is in."""
    data = (queue.home / "queue" / FILE).read_bytes()
    bits = [(at * 8 + bit, each) for at, each in places(data, queue.octets[column]) for bit in range(len(each) * 8)]
    assert len(bits) > SAMPLE
    home = tmp_path / "home"
    for place, each in bits if every else random.Random(7).sample(bits, SAMPLE):
        shutil.copytree(queue.home, home, ignore=shutil.ignore_patterns("copy"))
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        (home / "queue" / FILE).write_bytes(changed)
        yield home, each
        shutil.rmtree(home)


@pytest.mark.parametrize("column", COLUMNS, ids="-".join)
def test_nobody_gets_what_was_not_sent_to_him(
    queue: Queue, tmp_path: Path, column: tuple[str, str], pytestconfig: pytest.Config
) -> None:
    for home, octets in damaged(queue, tmp_path, column, pytestconfig.getoption("--every-point")):
        seen: set[Mail] = set()
        world = World(home / "queue", **SETTINGS)
        named = [said for _message, said in audit(world.store, 0, 1000).problems]
        try:
            drain(world, seen)
        except StoreDamaged as error:
            assert column[1] == "key", "one damaged message has stopped all"
            named.append(str(error))
        world.store.close()
        assert seen <= queue.mail
        assert named or seen == queue.mail, "somebody got nothing, and nothing was said"
        if column[1] != "key" and octets not in queue.unused:
            assert named
        if column[1] != "key":
            missing = queue.mail - seen
            # A notice is of the one message that can have one.
            assert len({sender or b"s2@example.org" for sender, _whom, _key in missing}) <= 1
            assert bool(missing) == bool(world.logged("alert"))


@pytest.mark.parametrize("column", COLUMNS, ids="-".join)
def test_the_rest_is_saved(
    queue: Queue,
    tmp_path: Path,
    column: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    pytestconfig: pytest.Config,
) -> None:
    """``queue recover`` takes nothing for good that is not, and says of whom it could not save."""
    for home, _octets in damaged(queue, tmp_path, column, pytestconfig.getoption("--every-point")):
        capsys.readouterr()
        code = run_command(["--home", str(home), "queue", "recover", "--json"], home)
        *findings, totals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        lost = {finding["message"] for finding in findings if not finding["saved"]}
        seen: set[Mail] = set()
        world = World(home / "queue", **SETTINGS)
        problems = audit(world.store, 0, 1000).problems
        drain(world, seen)
        world.store.close()
        assert seen <= queue.mail
        assert len(lost) <= 1
        assert bool(lost) == (code == 1)
        assert lost or seen == queue.mail
        # Of one message, with at most four recipients or its notice, something is missing.
        assert len(queue.mail - seen) <= 4
        # Of an end of which the record is gone nobody knows.
        assert column[0] == "ledger" or {message for message, _said in problems} <= lost
        assert column[0] != "ledger" or "ledger" in str(totals["damage"])


def spoilt(queue: Queue, tmp_path: Path, *queries: str) -> Path:
    """A copy of the home, in which the values that these find (table, column, condition) are not what they were."""
    home = tmp_path / "home"
    shutil.copytree(queue.home, home, ignore=shutil.ignore_patterns("copy"))
    db = sqlite3.connect(home / "queue" / FILE)
    for query in queries:
        table, column, condition = query.split(maxsplit=2)
        rows = db.execute(f"SELECT {column} FROM {table} WHERE {condition}").fetchall()
        for (octets,) in rows:
            changed = octets.replace(b"e", b"d")
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ? AND {condition}", (changed, octets))
    db.commit()
    db.close()
    return home


def test_recipients_whose_row_is_damaged_are_those_that_came_in(
    queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message's own row, which is not written again, has them too."""
    home = spoilt(queue, tmp_path, "part recipients message = 3")
    world, seen = World(home / "queue", **SETTINGS), set[Mail]()
    drain(world, seen)
    world.store.close()
    assert {sender for sender, _whom, _key in queue.mail - seen} == {b"s3@example.org"}
    assert run_command(["--home", str(home), "queue", "recover"], home) == 0
    said = capsys.readouterr().out
    assert "message 3 from <s3@example.org>: some recipients could not be read, and are those that it came in" in said
    drain(World(home / "queue", **SETTINGS), seen)
    assert seen == queue.mail


def test_whether_he_was_delivered_to_may_not_be_known(
    queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = spoilt(queue, tmp_path, "part recipients message = 1", "ledger entry message = 1")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    said = capsys.readouterr().out
    assert "4 of its 4 recipients cannot be read, if they were not delivered before, which is not known" in said
    db = sqlite3.connect(home / "queue" / FILE)
    assert db.execute("SELECT count(seal), count(*) > 0 FROM destination WHERE seal IS NULL").fetchone() == (0, 0)
    db.close()


def test_mail_that_an_index_does_not_lead_to_is_not_left_lying(queue: Queue, tmp_path: Path) -> None:
    """New mail for its destination, here a notice, made a second one of the same key, and nobody tried the first."""
    shutil.copytree(queue.home / "queue", tmp_path / "queue")
    flip(tmp_path / "queue", KEY_INDEX, b"[192.0.2.9]:25")
    with pytest.raises(StoreDamaged, match="have the same key"):
        drain(World(tmp_path / "queue", **SETTINGS), set())


def waiting(directory: Path, damaged: int, column: str) -> World:
    """A queue started anew, in which damaged messages stand before five others, for the same destination."""
    world = World(directory, **SETTINGS)
    for number in range(damaged + 5):
        world.inject(to(b"b%d@one.example" % number), now=FIRST + number)
    world.turn(FIRST)
    table, key = ("part", "message") if column == "recipients" else ("message", "id")
    world.store.recover()
    db = world.store._db.connection
    shorter = f"{column} = substr({column}, 1, length({column}) - 1)"
    db.execute(f"UPDATE {table} SET {shorter} WHERE {key} <= {damaged}")
    world.store.close()
    world = World(directory, **SETTINGS)
    world.store.recover()
    world.engine.recover(AGAIN)
    return world


def settle(world: World, now: float) -> list[bytes]:
    """Turn until there is nothing to do at once; who was attempted."""
    seen = []
    for _ in range(50):
        world.attempts = []
        more = world.engine.turn(now)
        for part, envelope in world.attempts:
            seen += [one.address for one in envelope.recipients]
            world.engine.report(part, [OK] * len(part.recipients), False, now)
        if not (more or world.attempts):
            return seen
    pytest.fail("it turns without end")


@pytest.mark.parametrize("column", ["recipients", "meta"])
def test_what_is_set_aside_is_in_nobodys_way(tmp_path: Path, column: str) -> None:
    """However much of it stands first, nor is it fetched again and again; a start names it anew."""
    world = waiting(tmp_path, 90, column)
    others = {b"b%d@one.example" % number for number in range(90, 95)}
    assert set(settle(world, AGAIN)) == others
    assert len(world.logged("alert")) == 90
    assert "set aside: message 1: " in world.logged("alert")[0][0]
    assert "; remedy: stop ekiden, then: ekiden queue recover" in world.logged("alert")[0][0]
    fetched = []
    for second in range(100):
        fetched.append(world.engine.tick(AGAIN + second) and bool(world.store.due_destinations(AGAIN + second, 10)))
        assert settle(world, AGAIN + second) == []
    assert not any(fetched)
    assert world.engine.scheduler.lanes() == []
    assert world.store.count() == 90
    world.inject(to(b"new@one.example"), now=AGAIN + 200)
    assert settle(world, AGAIN + 200) == [b"new@one.example"]
    world.engine.scheduler.wake_all()
    assert settle(world, AGAIN + 201) == []
    assert len(world.logged("alert")) == 90, "each is named once"
    for second in range(300, 400):
        world.engine.tick(AGAIN + second)
        settle(world, AGAIN + second)
    world.store.close()
    again = World(tmp_path, **SETTINGS)
    again.store.recover()
    again.engine.recover(AGAIN + 400)
    settle(again, AGAIN + 400)
    assert len(again.logged("alert")) == 90
    again.store.close()


def test_where_much_is_damaged_it_is_the_file(tmp_path: Path) -> None:
    world = waiting(tmp_path, 101, "recipients")
    with pytest.raises(StoreDamaged, match="remedy"):
        settle(world, AGAIN)


def test_the_other_recipients_of_a_message_get_it(queue: Queue, tmp_path: Path) -> None:
    """It stays, with those whose names are damaged."""
    home = spoilt(queue, tmp_path, "part recipients message = 1 AND part = 0")
    world, seen = World(home / "queue", **SETTINGS), set[Mail]()
    drain(world, seen)
    (missing,) = queue.mail - seen
    assert missing[0] == b"s1@example.org"
    assert [row.id for row in world.store.messages(0, 10)] == [1]
    assert world.store.content(1)


@pytest.mark.parametrize("other", [3, 300])
def test_a_part_that_has_come_to_another_message_is_more_than_a_damaged_row(tmp_path: Path, other: int) -> None:
    """Its own would be removed as soon as the other parts are done. One of these two is not there."""
    world = World(tmp_path, **SETTINGS)
    world.inject(to(b"a@one.example"), to(b"b@two.example"))
    world.turn(FIRST)
    for _ in range(5):
        world.inject(to(b"c@two.example"))
    world.turn(FIRST)
    world.store._db.connection.execute(f"UPDATE part SET message = {other} WHERE part = 1")
    world.store.close()
    world = World(tmp_path, **SETTINGS)
    world.store.recover()
    world.engine.recover(AGAIN)
    with pytest.raises(StoreDamaged, match=f"message {other}"):
        settle(world, AGAIN)


VALUES = {
    "message": {
        "birth": ("'x'", "9e999", "1e300"),
        "size": ("'x'", "-5"),
        "spool": ("x'ff00'", "'../../control/me'"),
        "meta": ("'x'", "5"),
        "sender": ("'x'", "5"),
        "segment": ("'x'",),
        "content": ("5", "'x'"),
    },
    "part": {"due": ("'x'", "9e999", "NULL"), "attempts": ("'x'", "-1", str((1 << 63) - 1)), "last": ("x'ff00'",)},
    "ledger": {"at": ("'x'",), "entry": ("'x'",)},
    "destination": {"key": ("'x'", "x'00'"), "seal": ("'x'", "5")},
}


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(table, column, value) for table, of in VALUES.items() for column, values in of.items() for value in values],
)
def test_values_that_cannot_be(
    queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, column: str, value: str
) -> None:
    """Named, in nobody's way, and mended or kept by ``queue recover``: some ended the queue process, or audit."""
    home = tmp_path / "home"
    shutil.copytree(queue.home, home, ignore=shutil.ignore_patterns("copy"))
    db = sqlite3.connect(home / "queue" / FILE, isolation_level=None)
    row = {"message": "id = 3", "part": "message = 3", "ledger": "message = 2", "destination": "id = 1"}[table]
    assert db.execute(f"UPDATE {table} SET {column} = {value} WHERE {row}").rowcount
    db.close()
    for command in (["audit"], ["trace", "3"], ["queue", "list"], ["queue", "show", "3", "--content"]):
        code = run_command(["--home", str(home), *command], home)
        assert command != ["audit"] or code == 1, "not named"
    world, seen = World(home / "queue", **SETTINGS), set[Mail]()
    if table == "destination":
        with pytest.raises(StoreDamaged):
            drain(world, seen)
    else:
        drain(world, seen)
        assert {sender for sender, _whom, _key in queue.mail - seen} <= {b"s3@example.org"}
    world.store.close()
    capsys.readouterr()
    code = run_command(["--home", str(home), "queue", "recover", "--json"], home)
    *findings, totals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert totals["damaged store"] or seen == queue.mail
    lost = {finding["message"] for finding in findings if not finding["saved"]}
    assert lost <= {3}
    assert not lost or column != "birth"
    world = World(home / "queue", **SETTINGS)
    drain(world, seen)
    assert {sender for sender, _whom, _key in queue.mail - seen} == ({b"s3@example.org"} if lost else set())
    world.store.close()


def test_a_store_without_checks_is_read(queue: Queue, tmp_path: Path) -> None:
    """As an earlier ekiden left it."""
    from ekiden.queue.sealing import TAG

    shutil.copytree(queue.home / "queue", tmp_path / "queue")
    store = SQLiteStore(tmp_path / "queue")
    for table, column in COLUMNS[1:]:
        if column != "key":
            store._db.connection.execute(f"UPDATE {table} SET {column} = substr({column}, 2, length({column}) - 5)")
    assert TAG not in {row[0][:1] for row in store._db.connection.execute("SELECT meta FROM message")}
    store._db.connection.execute("ALTER TABLE destination DROP COLUMN seal")
    store._db.connection.execute("PRAGMA user_version = 3")
    store.close()
    seen: set[Mail] = set()
    world = World(tmp_path / "queue", **SETTINGS)
    assert audit(world.store, 0, 1000).problems == []
    drain(world, seen)
    assert seen == queue.mail
    assert audit(world.store, 0, 1000).problems == []

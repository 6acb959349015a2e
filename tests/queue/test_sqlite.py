from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from ekiden.base.envelope import Origin, Recipient
from ekiden.queue.sealing import encode_recipients, key_check
from ekiden.queue.sqlite import _STATEMENTS, SQLiteStore
from ekiden.queue.sqlite_file import PAGE
from ekiden.queue.store import NEVER, Changes, Meta, StoreDamaged, StoreFailed, StoreFull

META = msgspec.msgpack.encode(Meta(Origin("smtp", 1, 2, "192.0.2.1", b"client")))
TO = msgspec.msgpack.encode([Recipient(b"a@example.org")])
"""Without a check, as in a store of an earlier ekiden, so that they fit any message."""


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(tmp_path)


def one_message(number: int = 1, due: float = 100.0, spool: str | None = None, destination: int = 1) -> Changes:
    changes = Changes()
    content = None if spool else b"text\n"
    recipients = encode_recipients([Recipient(b"a@example.org")], number, destination)
    changes.messages.append((number, 100.0, b"s@example.org", 5, spool, META, content, None, None))
    changes.parts.append((number, 0, destination, due, recipients))
    return changes


def fresh_message(number: int = 1) -> Changes:
    """One that holds its only part itself."""
    changes = Changes()
    changes.messages.append((number, 100.0, b"s@example.org", 5, None, META, b"text\n", 1, TO))
    return changes


def many(*each: Changes) -> Changes:
    together = Changes()
    for changes in each:
        together.messages += changes.messages
        together.parts += changes.parts
    return together


def destination(number: int = 1, key: bytes = b"example.org") -> Changes:
    changes = Changes()
    changes.destinations.append((number, key, key_check(key, number)))
    return changes


def after_crash(directory: Path) -> SQLiteStore:
    """The store as a crash at this moment leaves it: the files as they are, the first connection never closed."""
    copy = directory.with_suffix(".crashed")
    shutil.copytree(directory, copy)
    return SQLiteStore(copy)


def test_what_was_applied_is_there_after_a_crash(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    store.apply(destination(), one_message())
    again = after_crash(tmp_path)
    found = again.recover()
    assert (found.messages, found.unfinished_destinations) == (1, 1)
    row = again.message(1)
    assert row is not None
    assert (row.sender, row.size, row.held, row.meta.origin.address) == (b"s@example.org", 5, False, "192.0.2.1")
    assert again.content(1) == b"text\n"
    assert [part.recipients for part in again.parts(1)] == [[Recipient(b"a@example.org")]]
    assert again.due_destinations(0.0, 10) == [(1, b"example.org")]


def test_what_came_while_no_queue_role_ran_is_known(tmp_path: Path) -> None:
    def injected() -> int:
        direct = SQLiteStore(tmp_path)
        number = direct.new_message_id()
        direct.close()
        return number

    injected()
    role = SQLiteStore(tmp_path)
    assert role.recover().new == (0, 1)
    assert role.new_message_id() == 2
    role.close()
    assert injected() == 3
    role = SQLiteStore(tmp_path)
    assert role.recover().new == (2, 3)
    own = role.new_message_id()
    after, until = after_crash(tmp_path).recover().new
    assert own <= after == until


def test_a_part_in_its_message_is_seen_and_claimed_after_a_crash(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    store.apply(destination(), many(fresh_message(1), fresh_message(2)))
    assert [(part.part, part.destination, part.due, part.attempts) for part in store.parts(1)] == [(0, 1, 100.0, 0)]
    assert store.part_count(1) == 1
    assert store.claim(1, 200.0, 10) == []
    again = after_crash(tmp_path)
    assert again.recover().messages == 2
    assert [row.message for row in again.claim(1, 200.0, 10)] == [1, 2]
    assert again.part_count(1) == 1


def test_a_part_in_its_message_gets_a_row_when_it_is_deferred_or_held(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    store.apply(destination(), many(*map(fresh_message, (1, 2, 3))))
    later = Changes()
    later.deferred.append((1, 0, 1, 700.0, 1, TO, "Not now.\n"))
    later.removed.append((3,))
    store.apply(later)
    assert store.hold(2)
    again = after_crash(tmp_path)
    assert again.recover().messages == 2
    assert [(part.due, part.attempts, part.last) for part in again.parts(1)] == [(700.0, 1, "Not now.\n")]
    assert [part.due for part in again.parts(2)] == [None]
    assert again.parts(3) == []


def test_a_start_looks_for_parts_in_messages_only_above_the_mark(tmp_path: Path) -> None:
    def mark() -> int:
        return int(store._db.one("SELECT coalesce(max(last), 0) FROM sequence WHERE name = 'mark'"))

    def replace(old: int) -> int:
        """Nine thousand messages later."""
        for _ in range(9000):
            new = store.new_message_id()
        done = Changes()
        done.removed.append((old,))
        store.apply(done, fresh_message(new))
        return new

    store = SQLiteStore(tmp_path)
    first = store.new_message_id()
    store.apply(destination(), fresh_message(first))
    latest = 0
    for _ in range(4):
        latest = replace(latest)
    assert mark() == 0, "the first message keeps it down"
    latest = replace(first)
    latest = replace(latest)
    assert 10_000 <= mark() <= latest
    found = after_crash(tmp_path).recover()
    assert found.messages == 2


def test_a_file_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    store.apply(destination(), one_message())
    for table, column in (
        *(("message", name) for name in ("destination", "recipients", "segment", "at")),
        ("destination", "seal"),
    ):
        store._db.connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    store._db.connection.execute("PRAGMA user_version = 1")
    store.close()
    store = SQLiteStore(tmp_path)
    assert store.recover().messages == 1
    store.apply(Changes(), fresh_message(2))
    assert [store.part_count(number) for number in (1, 2)] == [1, 1]
    assert store.destination_key(1) == b"example.org"


def test_a_failed_transaction_leaves_nothing(store: SQLiteStore) -> None:
    store.apply(destination(), one_message())
    broken = one_message(2)
    broken.parts.append(broken.parts[0])
    with pytest.raises(StoreFailed):
        store.apply(broken)
    assert store.message(2) is None
    assert store.count() == 1


def test_claim_gives_due_parts_longest_due_first(store: SQLiteStore) -> None:
    store.apply(destination(), many(one_message(1, due=30.0), one_message(2, due=10.0), one_message(3, due=90.0)))
    assert [row.message for row in store.claim(1, 50.0, 10)] == [2, 1]
    assert [row.message for row in store.claim(1, 50.0, 1)] == [2]
    assert store.destination_next_due(1, 50.0) == 90.0


def test_hold_keeps_a_message_until_release(store: SQLiteStore) -> None:
    store.apply(destination(), one_message())
    parked = Changes()
    parked.parked.append((500.0, 1))
    store.apply(parked)
    assert store.hold(1)
    assert not store.hold(1)
    assert store.claim(1, 1e9, 10) == []
    assert store.destination_next_due(1, 0.0) == NEVER
    assert store.release(1, 300.0)
    assert [row.due for row in store.claim(1, 300.0, 10)] == [300.0]
    assert store.due_destinations(300.0, 10) == [(1, b"example.org")]


def test_ids_are_never_used_twice_even_after_a_crash(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    first = [store.new_message_id() for _ in range(3)]
    store.close()
    store = SQLiteStore(tmp_path)
    second = [store.new_message_id() for _ in range(3)]
    assert second == [first[-1] + 1, first[-1] + 2, first[-1] + 3]
    assert after_crash(tmp_path).new_message_id() > second[-1]


@pytest.mark.parametrize("harm", ["DELETE FROM sequence", "UPDATE sequence SET last = 2"])
def test_ids_that_are_used_are_not_given_again_when_the_last_number_is_set_back(tmp_path: Path, harm: str) -> None:
    """The next message had another's number, and the queue process died of it again and again."""
    store = SQLiteStore(tmp_path)
    used = [store.new_message_id() for _ in range(3)]
    row = (1000.0, b"s@example.org", 1, None, META, b"x", None, None)
    store.apply(Changes(destinations=[(1, b"[192.0.2.1]", None)], messages=[(number, *row) for number in used]))
    store.close()
    db = sqlite3.connect(tmp_path / "queue.sqlite", isolation_level=None)
    db.execute(harm)
    db.close()
    store = SQLiteStore(tmp_path)
    assert store.new_message_id() == 4
    assert store.new_destination_id() == 2


@pytest.mark.parametrize("last", ["'x'", str(1 << 62), "-5", "1.5"])
def test_a_last_number_that_cannot_be_is_damage(tmp_path: Path, last: str) -> None:
    store = SQLiteStore(tmp_path)
    store.new_message_id()
    store.close()
    db = sqlite3.connect(tmp_path / "queue.sqlite", isolation_level=None)
    db.execute(f"UPDATE sequence SET last = {last} WHERE name = 'message'")
    db.close()
    with pytest.raises(StoreDamaged, match="the last number of a message cannot be"):
        SQLiteStore(tmp_path).new_message_id()


@pytest.mark.parametrize("harm", ["DROP TABLE ledger", "DROP TABLE part", "DROP INDEX message_spool"])
def test_what_is_not_in_the_schema_is_damage(tmp_path: Path, harm: str) -> None:
    """To start again is no use."""
    SQLiteStore(tmp_path).close()
    db = sqlite3.connect(tmp_path / "queue.sqlite", isolation_level=None)
    db.execute(harm)
    db.close()
    store = SQLiteStore(tmp_path)
    with pytest.raises(StoreDamaged, match=r"no such .*remedy"):
        store.recover()
        store.ledger(0, 10, 10)


def test_leftover_spool_files_are_removed_and_named_ones_kept(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    for name in ("named", "leftover"):
        os.close(store.create_spool(name))
    store.apply(destination(), one_message(spool="named"))
    again = after_crash(tmp_path)
    spool = tmp_path.with_suffix(".crashed") / "spool"
    assert again.recover().spool_files_removed == 1
    assert os.listdir(spool) == ["named"]


def flip(directory: Path, tree: str, octets: bytes) -> None:
    """Change one bit of a value in the first page of a table or index of a closed store."""
    with sqlite3.connect(directory / "queue.sqlite") as db:
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (tree,))
    db.close()
    with open(directory / "queue.sqlite", "r+b") as file:
        start = (root - 1) * PAGE
        file.seek(start)
        place = start + file.read(PAGE).index(octets)
        file.seek(place)
        file.write(bytes([octets[0] ^ 1]))


@pytest.mark.parametrize(("tree", "seen"), [("message_spool", True), ("message", False)])
def test_a_named_spool_file_outlives_a_flipped_bit(tmp_path: Path, tree: str, seen: bool) -> None:
    """An index that had lost a name made a leftover of the content of an accepted message."""
    store = SQLiteStore(tmp_path)
    os.close(store.create_spool("named"))
    store.apply(destination(), one_message(spool="named"))
    store.close()
    flip(tmp_path, tree, b"named")
    with pytest.raises(StoreDamaged, match="message_spool") if seen else nullcontext():
        SQLiteStore(tmp_path).recover()
    assert os.listdir(tmp_path / "spool") == ["named"]


KEY_INDEX = "sqlite_autoindex_destination_1"


@pytest.mark.parametrize(
    ("tree", "octets"),
    [
        ("part_due", struct.pack(">d", 100.5)),
        ("destination_due", struct.pack(">d", 200.5)),
        (KEY_INDEX, b"example.org"),
    ],
)
def test_parts_that_an_index_does_not_lead_to_are_known(tmp_path: Path, tree: str, octets: bytes) -> None:
    store = SQLiteStore(tmp_path)
    parked = Changes()
    parked.parked.append((200.5, 1))
    store.apply(destination(), one_message(due=100.5))
    store.apply(parked)
    assert store.unscheduled(1) == []
    store.close()
    flip(tmp_path, tree, octets)
    assert SQLiteStore(tmp_path).unscheduled(1) == [0]


def test_no_index_leads_to_another_destination(tmp_path: Path) -> None:
    """It would get the mail of the one that was meant."""
    store = SQLiteStore(tmp_path)
    store.apply(destination(300), one_message(destination=300))
    store.close()
    flip(tmp_path, KEY_INDEX, b"example.org")
    flip(tmp_path, "part_due", struct.pack(">h", 300))
    again = SQLiteStore(tmp_path)
    with pytest.raises(StoreDamaged, match="destination 300"):
        again.destination(b"dxample.org")
    with pytest.raises(StoreDamaged, match="message 1: the recipients of its part 0"):
        again.claim(300 ^ 256, 200.0, 10)


def test_a_text_that_is_none_is_damage(store: SQLiteStore) -> None:
    store.apply(destination(), one_message())
    store._db.connection.execute("UPDATE part SET last = CAST(x'ff' AS TEXT)")
    with pytest.raises(StoreDamaged):
        store.parts(1)


def test_a_destination_with_parts_is_not_forgotten(store: SQLiteStore) -> None:
    forget = Changes()
    forget.forgotten.append((1,))
    store.apply(destination(), one_message())
    store.apply(forget)
    assert store.destination(b"example.org") == 1


def test_flush_goes_in_steps(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.queue.sqlite._FLUSH", 2)
    store.apply(destination(), many(*(one_message(number, due=1e9) for number in range(1, 6))))
    after, total = 0, 0
    for _ in range(10):
        count, after = store.flush(500.0, after)
        total += count
        if not after:
            break
    assert (total, after) == (5, 0)
    assert len(store.claim(1, 500.0, 10)) == 5


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    store._db.connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreFailed, match="later version"):
        SQLiteStore(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreFailed, match=r"queue\.sqlite"):
        SQLiteStore(tmp_path)


@pytest.fixture
def small_device(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_results_are_recorded_on_a_full_device_and_new_mail_waits_for_room(small_device: Path) -> None:
    store = SQLiteStore(small_device)
    store.apply(destination())
    stored = 0
    with pytest.raises(StoreFull):
        for number in range(1, 100_000):
            changes = one_message(number)
            changes.messages[0] = (*changes.messages[0][:6], b"x" * 4000, None, None)
            store.apply(Changes(), changes)
            stored = number
    assert stored > 300
    for number in range(1, stored + 1):
        done = Changes()
        done.finished.append((number, 0))
        done.removed.append((number,))
        store.apply(done)
    assert store.count() == 0
    store.apply(Changes(), one_message(200_000))
    assert store.count() == 1
    store.close()


def test_there_are_ids_for_notices_when_the_device_is_full(small_device: Path) -> None:
    store = SQLiteStore(small_device)
    for number in range(1, 6001):
        assert store.new_message_id() == number
    with pytest.raises(OSError), (small_device / "others").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    for number in range(6001, 16_001):
        assert store.new_message_id() == number
    assert (small_device / "reserve").exists()
    store.close()


def test_every_kind_of_change_is_written() -> None:
    assert sorted(name for name, _statement in _STATEMENTS) == sorted(field.name for field in fields(Changes))

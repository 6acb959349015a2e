from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from ekiden.base.envelope import Origin, Recipient
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import NEVER, Changes, Meta, StoreFailed, StoreFull

META = msgspec.msgpack.encode(Meta(Origin("smtp", 1, 2, "192.0.2.1", b"client")))
TO = msgspec.msgpack.encode([Recipient(b"a@example.org")])


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(tmp_path)


def one_message(number: int = 1, due: float = 100.0, spool: str | None = None, destination: int = 1) -> Changes:
    changes = Changes()
    changes.messages.append((number, 100.0, b"s@example.org", 5, spool, META, None if spool else b"text\n"))
    changes.parts.append((number, 0, destination, due, TO))
    return changes


def many(*each: Changes) -> Changes:
    together = Changes()
    for changes in each:
        together.messages += changes.messages
        together.parts += changes.parts
    return together


def destination(number: int = 1, key: bytes = b"example.org") -> Changes:
    changes = Changes()
    changes.destinations.append((number, key))
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
    assert store.hold([1], 200.0) == 1
    assert store.hold([1], 200.0) == 0
    assert store.claim(1, 1e9, 10) == []
    assert store.destination_next_due(1, 0.0) == NEVER
    assert store.release([1], 300.0) == 1
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


def test_leftover_spool_files_are_removed_and_named_ones_kept(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    for name in ("named", "leftover"):
        os.close(store.create_spool(name))
    store.apply(destination(), one_message(spool="named"))
    again = after_crash(tmp_path)
    spool = tmp_path.with_suffix(".crashed") / "spool"
    assert again.recover().spool_files_removed == 1
    assert os.listdir(spool) == ["named"]
    assert again.delete([1]) == 1
    assert os.listdir(spool) == []


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


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreFailed, match="another version"):
        SQLiteStore(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreFailed, match=r"queue\.sqlite"):
        SQLiteStore(tmp_path)


def test_results_are_recorded_on_a_full_device_and_new_mail_waits_for_room(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path], check=True)
    try:
        store = SQLiteStore(tmp_path)
        store.apply(destination())
        stored = 0
        with pytest.raises(StoreFull):
            for number in range(1, 100_000):
                changes = one_message(number)
                changes.messages[0] = (*changes.messages[0][:6], b"x" * 4000)
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
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)

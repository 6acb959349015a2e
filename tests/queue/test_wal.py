"""SQLite's log read without SQLite: what a power failure leaves is no damage."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ekiden.queue.damage import look
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import Changes, StoreDamaged
from ekiden.queue.wal import extent, read_log

HEADER, FRAME = 32, 24 + 4096


def test_a_frame_from_before_the_log_was_begun_again_is_no_damage(tmp_path: Path) -> None:
    """Of two transactions neither was synced: the second one's page reached the disk, the first one's did not."""
    path, log = tmp_path / "store", tmp_path / "store-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode = wal")
        store.execute("CREATE TABLE mail (id INTEGER PRIMARY KEY, text)")
        logs = []
        for texts in (["old"], ["one", "two"]):
            store.execute("PRAGMA wal_checkpoint(RESTART)")
            for text in texts:
                store.execute("INSERT INTO mail (text) VALUES (?)", (text,))
            logs.append(log.read_bytes())
    before, after = logs
    assert read_log(after).frames and not read_log(after).damage
    torn = after[:HEADER] + before[HEADER : HEADER + FRAME] + after[HEADER + FRAME :]
    assert (read_log(torn).frames, read_log(torn).damage) == ({}, "")
    spoilt = after[: HEADER + 100] + b"\0spoilt\0" + after[HEADER + 108 :]
    assert read_log(spoilt).damage


def test_a_damaged_checksum_hides_what_follows_from_sqlite(tmp_path: Path) -> None:
    path, log = tmp_path / "store", tmp_path / "store-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode = wal")
        store.execute("CREATE TABLE mail (id INTEGER PRIMARY KEY, text)")
        for text in ("one", "two", "three"):
            store.execute("INSERT INTO mail (text) VALUES (?)", (text,))
        whole = log.read_bytes()
    at = HEADER + 2 * FRAME + 20
    spoilt = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    assert read_log(spoilt).damage
    assert read_log(spoilt).frames == read_log(whole).frames


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A queue whose role was killed after three messages, the last of them just now."""
    store = SQLiteStore(tmp_path / "live")
    store.recover()
    for number in range(3):
        store.note_reach()
        row = (store.new_message_id(), 1000.0, b"s@example.org", 5000, None, b"", bytes(5000), None, None)
        store.apply(Changes(messages=[row], parts=[(number + 1, 0, 1, 1000.0, b"")]))
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    store.close()
    return tmp_path / "crashed"


@pytest.fixture(autouse=True)
def directories(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()


def test_a_log_that_was_cut_off_is_seen(crashed: Path) -> None:
    """SQLite takes it for one that ended there: an empty queue, and nobody knew."""
    log = crashed / "queue.sqlite-wal"
    whole = log.read_bytes()
    frames = (len(whole) - HEADER) // FRAME
    said = int((crashed / "state").read_bytes().split()[2])
    assert 0 < said < frames
    assert frames - said < 10, "only what came since the last note"
    lengths = {
        0,
        1,
        HEADER - 1,
        HEADER,
        *(HEADER + number * FRAME + rest for number in range(said) for rest in (0, 7)),
    }
    for length in lengths:
        log.write_bytes(whole[:length])
        with pytest.raises(StoreDamaged, match=r"has been truncated: .*remedy"):
            look(crashed)
    for length in range(HEADER + said * FRAME, len(whole) + 1, FRAME):
        log.write_bytes(whole[:length])
        look(crashed)


def test_a_log_that_was_begun_again_or_given_up_is_not_cut_off(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "live")
    store.recover()
    for harm in ("RESTART", "TRUNCATE"):
        for number in range(5):
            store.apply(Changes(destinations=[(store.new_destination_id(), b"%d%b" % (number, harm.encode()), 0)]))
        store.note_reach()
        if harm == "TRUNCATE":
            store._db._checkpoint()
            assert not (tmp_path / "live" / "queue.sqlite-wal").stat().st_size
        else:
            store._db.connection.execute("PRAGMA wal_checkpoint(RESTART)")
        look(tmp_path / "live")
        store.apply(Changes(destinations=[(store.new_destination_id(), harm.encode(), 0)]))
        look(tmp_path / "live")
    store.close()
    assert (tmp_path / "live" / "state").read_bytes() == b"closed\n"
    look(tmp_path / "live")


def test_a_transaction_that_was_taken_back_is_not_counted(tmp_path: Path) -> None:
    """Some of its pages may be in the log, and not on the disk."""
    path = tmp_path / "store"
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode = wal")
        store.execute("CREATE TABLE mail (text)")
        store.execute("PRAGMA cache_size = 5")
        with (tmp_path / "store-wal").open("rb") as log:
            before = extent(log.fileno())
            store.execute("BEGIN")
            store.executemany("INSERT INTO mail VALUES (?)", [("x" * 4000,)] * 50)
            store.execute("ROLLBACK")
            assert (tmp_path / "store-wal").stat().st_size > HEADER + (before[1] + 5) * FRAME
            assert extent(log.fileno()) == before

"""SQLite's log read without SQLite: what a power failure leaves is no damage."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ekiden.queue.wal import read_log

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

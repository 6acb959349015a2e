"""The constant database: the same octets as cdbmake's, every value found again, damage reported."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.peers.processes import program

from ekiden.tables.cdb import Cdb, cdb_hash, replace_cdb
from ekiden.tables.table import TableError

Records = list[tuple[bytes, bytes]]

RECORDS: Records = [
    (b"one", b"1"),
    (b"two", b"2"),
    (b"one", b"uno"),
    (b"", b"empty"),
    (b"nothing", b""),
    (b"one", b"1"),
]
MANY: Records = [(b"key%d" % number, b"value %d" % (number * 7)) for number in range(3000)]
LARGE: Records = [(b"k" * 5000, b"v" * 100_000), (b"\0\xff", bytes(range(256)) * 3)]

record_lists = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=300)), max_size=40)


def write(directory: Path, records: Records) -> Path:
    path = directory / "test.cdb"
    replace_cdb(path, directory / "test.tmp", records)
    return path


@pytest.mark.parametrize("records", [[], RECORDS, MANY, LARGE], ids=["none", "few", "many", "large"])
def test_the_octets_are_those_of_cdbmake(tmp_path: Path, records: Records) -> None:
    text = b"".join(b"+%d,%d:%b->%b\n" % (len(key), len(value), key, value) for key, value in records)
    theirs = tmp_path / "theirs.cdb"
    subprocess.run([program("cdb"), "-c", theirs], input=text + b"\n", check=True)
    assert write(tmp_path, records).read_bytes() == theirs.read_bytes()


def test_values_come_in_the_order_of_writing(tmp_path: Path) -> None:
    with Cdb(write(tmp_path, RECORDS)) as table:
        assert list(table.values(b"one")) == [b"1", b"uno", b"1"]
        assert table.get(b"one") == b"1"
        assert table.get(b"") == b"empty"
        assert table.get(b"nothing") == b""
        assert table.get(b"three") is None
        assert list(table.items()) == RECORDS


def test_many_and_large_records_are_found(tmp_path: Path) -> None:
    with Cdb(write(tmp_path, MANY + LARGE)) as table:
        assert all(table.get(key) == value for key, value in MANY + LARGE)
        assert not any(table.get(key + b"x") for key, _ in MANY)
        assert list(table.items()) == MANY + LARGE


def test_keys_of_one_hash_are_told_apart(tmp_path: Path) -> None:
    records = [(b"!B", b"1"), (b'"!', b"2")]
    assert cdb_hash(records[0][0]) == cdb_hash(records[1][0])
    with Cdb(write(tmp_path, records)) as table:
        assert [table.get(key) for key, _ in records] == [b"1", b"2"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(record_lists)
def test_what_is_written_is_read(tmp_path: Path, records: Records) -> None:
    with Cdb(write(tmp_path, records)) as table:
        assert list(table.items()) == records
        for key, _ in records:
            assert list(table.values(key)) == [value for other, value in records if other == key]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(record_lists, st.data())
def test_damage_is_reported_or_harmless(tmp_path: Path, records: Records, data: st.DataObject) -> None:
    path = write(tmp_path, records)
    octets = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(octets[: data.draw(st.integers(0, len(octets)))])
    readings: list[Callable[[Cdb], object]] = [lambda table: list(table.items())]
    readings += [lambda table, key=key: list(table.values(key)) for key, _ in records[:5]]
    for read in readings:
        try:
            with Cdb(path) as table:
                read(table)
        except TableError as error:
            assert "damaged" in str(error)


@pytest.mark.parametrize("kept", [0, 1, 2047, 2048, 2060, -1])
def test_a_file_cut_short_is_damaged(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path, RECORDS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TableError, match="is damaged"):
        Cdb(path)


def test_a_file_whose_writer_was_stopped_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    path.write_bytes(bytes(2048) + path.read_bytes()[2048:])
    with pytest.raises(TableError, match="is damaged"):
        Cdb(path)


def test_a_file_cut_short_while_open_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    with Cdb(path) as table:
        os.truncate(path, 0)
        with pytest.raises(TableError, match="is damaged"):
            table.get(b"one")


def test_a_record_that_claims_gigabytes_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, [(b"key", b"value")])
    octets = bytearray(path.read_bytes())
    octets[2052:2056] = b"\xff\xff\xff\xf0"
    path.write_bytes(octets)
    with Cdb(path) as table, pytest.raises(TableError, match="is damaged"):
        table.get(b"key")


def test_a_replaced_file_goes_on_answering(tmp_path: Path) -> None:
    with Cdb(write(tmp_path, [(b"key", b"old")])) as table:
        write(tmp_path, [(b"key", b"new")])
        assert table.get(b"key") == b"old"
        with Cdb(tmp_path / "test.cdb") as successor:
            assert successor.get(b"key") == b"new"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"unable to read .*absent: No such file"):
        Cdb(tmp_path / "absent")


def test_a_closed_table_cannot_answer(tmp_path: Path) -> None:
    table = Cdb(write(tmp_path, RECORDS))
    table.close()
    table.close()
    with pytest.raises(TableError):
        table.get(b"one")


def test_records_that_fail_leave_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    before = path.read_bytes()

    def records() -> Records:
        raise ValueError

    with pytest.raises(ValueError):
        replace_cdb(path, tmp_path / "test.tmp", (record for record in [()] for record in records()))
    assert path.read_bytes() == before

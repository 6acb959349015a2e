"""The table of addresses that timed out: kept, read again, and nothing else when the file is damaged or full."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.runtime.frames import HostState
from ekiden.runtime.host_table import HostTable

STATES = [HostState("192.0.2.1", 1000.0, 2), HostState("2001:db8::1", 1001.0, 1), HostState("/run/a b", 7.0, 10)]


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    HostTable(tmp_path).keep(STATES)
    table = HostTable(tmp_path)
    assert list(table.load().values()) == STATES
    table.keep(STATES[1:2])
    assert list(HostTable(tmp_path).load()) == ["2001:db8::1"]
    assert (tmp_path / "tcpto").stat().st_mode & 0o777 == 0o600


def test_a_timeout_in_the_future_is_now(tmp_path: Path) -> None:
    HostTable(tmp_path).keep([HostState("192.0.2.1", 9e15, 2)])
    assert HostTable(tmp_path).load()["192.0.2.1"].since < 9e15


@given(st.binary(max_size=300))
def test_any_file_can_be_read(tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
    directory = tmp_path_factory.mktemp("queue")
    (directory / "tcpto").write_bytes(octets + b"\n192.0.2.1 5 2\n192.0.2.9 5")
    assert HostTable(directory).load()["192.0.2.1"] == HostState("192.0.2.1", 5.0, 2)


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "tcpto").mkdir()
    table = HostTable(tmp_path)
    table.keep(STATES)
    assert table.load() == {}

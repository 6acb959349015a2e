"""Control files are read line by line as qmail reads them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.settings.lines import control_line, control_lines, entries, first_line, load


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", b""),
        (b"\n", b""),
        (b"host", b"host"),
        (b"host\nmore\n", b"host"),
        (b"host \t \n", b"host"),
        (b"\nhost\n", b""),
        (b"  host\n", b"  host"),
        (b"# host\n", b"# host"),
        (b"host\r\n", b"host\r"),
        (b"a b\tc \n", b"a b\tc"),
    ],
)
def test_a_fact_is_the_first_line(raw: bytes, line: bytes) -> None:
    assert first_line(raw) == line


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", []),
        (b"\n\n \n\t\n", []),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"a\nb", [(1, b"a"), (2, b"b")]),
        (b"# no\n#no\na # yes\n", [(3, b"a # yes")]),
        (b" # not a comment\n", [(1, b" # not a comment")]),
        (b"a \t\n\n b\n", [(1, b"a"), (3, b" b")]),
        (b"a\0b\n", [(1, b"a"), (1, b"b")]),
        (b"a\0#b\n", [(1, b"a"), (1, b"#b")]),
        (b"\0a\nb\n", [(2, b"b")]),
        (b"a\r\n", [(1, b"a\r")]),
    ],
)
def test_entries(raw: bytes, expected: list[tuple[int, bytes]]) -> None:
    assert list(entries(raw)) == expected


@given(
    st.lists(
        st.binary(min_size=1).filter(lambda e: not set(e) & set(b"\n\0") and e[-1:] not in b" \t" and e[0] != 35)
    )
)
def test_what_is_written_line_by_line_is_read_back(written: list[bytes]) -> None:
    raw = b"# comment\n" + b"".join(entry + b" \t\n\n" for entry in written)
    assert [entry for _, entry in entries(raw)] == written


@given(st.binary())
def test_entries_name_the_line_they_are_on(raw: bytes) -> None:
    lines = raw.split(b"\n")
    assert all(entry in lines[number - 1] for number, entry in entries(raw))


def test_load(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    assert load(tmp_path / "file") == b"x" * 200_000
    assert load(tmp_path / "none") is None
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert load(tmp_path / "fifo") == b""


def test_load_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "none"):
        with contextlib.suppress(OSError):
            load(path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as raised:
        load(tmp_path)
    assert raised.value.filename == str(tmp_path)


def test_facts_and_entries_of_a_home(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_bytes(b"mx.example \nother\n")
    assert control_line(str(tmp_path), "me") == b"mx.example"
    assert control_line(str(tmp_path), "none") is None
    (tmp_path / "list").write_bytes(b"# remark\na\n\nb\0c\t\n")
    assert control_lines(str(tmp_path / "list")) == [b"a", b"b", b"c"]
    assert control_lines(str(tmp_path / "none")) is None

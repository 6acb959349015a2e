"""End of data, dot-stuffing, lone newlines, long lines."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.lines import DotReader, LineGauge, is_whole, mend_newlines, stuff

lines = st.lists(st.text("ab.", max_size=4).map(str.encode), max_size=8).map(
    lambda parts: b"".join(part + b"\r\n" for part in parts)
)
noise = st.text("a.\r\n", max_size=30).map(str.encode)


def read_in_pieces(data: bytes, size: int) -> tuple[bytes, bytes | None]:
    reader, content = DotReader(), b""
    for start in range(0, len(data), size):
        block, rest = reader.read(data[start : start + size])
        assert not (content.endswith(b"\r") and block.startswith(b"\n"))
        content += block
        if rest is not None:
            return content, rest + data[start + size :]
    return content, None


@given(lines, st.integers(1, 40), noise)
def test_stuffed_content_comes_back(content: bytes, size: int, after: bytes) -> None:
    assert read_in_pieces(stuff(content) + b".\r\n" + after, size) == (content, after)


@pytest.mark.parametrize("dots", [0, 1, 19, 20, 21, 40])
@pytest.mark.parametrize("line", [b".\r\n", b"..\r\n", b"a.\r\n"])
def test_stuffed_behind_any_number_of_dots(dots: int, line: bytes) -> None:
    content = b"a." * dots + b"\r\n" + line + b"b\r\n"
    assert stuff(content) == content.replace(b"\r\n.", b"\r\n..")
    assert read_in_pieces(stuff(content) + b".\r\n", 1000) == (content, b"")


@given(noise, st.integers(1, 5))
def test_pieces_do_not_matter(data: bytes, size: int) -> None:
    whole, pieces = read_in_pieces(data, 1000), read_in_pieces(data, size)
    assert whole == pieces


@given(noise)
def test_only_the_true_mark_ends(data: bytes) -> None:
    ended = read_in_pieces(data, 1000)[1] is not None
    assert ended == (b"\r\n.\r\n" in b"\r\n" + data)


@given(noise)
def test_mending_makes_whole(data: bytes) -> None:
    mended = mend_newlines(data)
    assert is_whole(mended)
    if is_whole(data):
        assert mended == data


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"", True), (b"a\r\n", True), (b"a\n", False), (b"a\r", False), (b"\r\r\n", False), (b"\n\r", False)],
)
def test_whole(data: bytes, whole: bool) -> None:
    assert is_whole(data) is whole


@given(noise)
def test_whole_is_what_the_pairs_account_for(data: bytes) -> None:
    pairs = data.count(b"\r\n")
    assert is_whole(data) is (data.count(b"\r") == pairs == data.count(b"\n"))


@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 200), max_size=4))
def test_the_longest_line_is_found(lengths: list[int], borders: list[int]) -> None:
    content = b"".join(b"x" * length + b"\r\n" for length in lengths)
    at = sorted({0, len(content), *(border % (len(content) + 1) for border in borders)})
    gauge = LineGauge()
    for start, end in itertools.pairwise(at):
        if content[end - 1 : end] == b"\r":
            return
        gauge.measure(content[start:end])
    assert gauge.longest == max(lengths, default=0)

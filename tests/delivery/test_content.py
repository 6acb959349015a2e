"""The three sources of content give the same octets, however they are cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.delivery import content as module
from ekiden.delivery.content import Content, PlainFile, WireContent, WireFile

DELIVERED_TO = b"Delivered-To: joe@x\n"


def file_with(octets: bytes) -> int:
    return module.in_memory(iter((octets,)))


SOURCES: list[Callable[[bytes], Content]] = [
    lambda plain: WireContent(plain.replace(b"\n", b"\r\n")),
    lambda plain: WireFile(file_with(plain.replace(b"\n", b"\r\n"))),
    lambda plain: PlainFile(file_with(plain)),
]


@pytest.mark.parametrize("source", SOURCES)
@given(
    plain=st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\n\n", b"From "])).map(b"".join), piece=st.integers(1, 9)
)
def test_what_was_injected_comes_out(source: Callable[[bytes], Content], plain: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        content = source(plain)
        assert b"".join(content.chunks()) == plain
        assert b"".join(content.wire()) == plain.replace(b"\n", b"\r\n")
        for _ in range(2):
            assert os.read(content.descriptor(), 1000) == plain
        content.close()


HEADERS = [
    (b"", False),
    (DELIVERED_TO, True),
    (b"A: b\n" + DELIVERED_TO + b"\nbody\n", True),
    (b"A: b\n\n" + DELIVERED_TO, False),
    (b"\n" + DELIVERED_TO, False),
    (b"Delivered-To: joe@x", False),
    (b"Delivered-To: joe@x \n", False),
    (b"delivered-to: joe@x\n", False),
    (b"Delivered-To: joe@xy\n", False),
    (b"X-Delivered-To: joe@x\n", False),
    (b"A: " + b"x" * 500 + DELIVERED_TO, False),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("piece", [3, 1000])
@pytest.mark.parametrize(("plain", "expected"), HEADERS)
def test_header_line(
    source: Callable[[bytes], Content], plain: bytes, expected: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    assert source(plain).header_has(DELIVERED_TO) is expected


def test_no_program_can_change_what_the_next_one_reads() -> None:
    content = WireContent(b"abc\r\n")
    with pytest.raises(PermissionError):
        os.write(content.descriptor(), b"X")
    with pytest.raises(PermissionError):
        os.ftruncate(content.descriptor(), 0)
    content.close()


def test_closing_gives_descriptors_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for source in SOURCES[:2]:
        content = source(b"abc\n")
        content.descriptor()
        content.close()
        content.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_cannot_be_delivered_from(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="seek"):
        list(PlainFile(reading).chunks())
    os.close(reading)
    os.close(writing)

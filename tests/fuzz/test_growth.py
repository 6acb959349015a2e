"""Work grows as inputs do: shapes that are nasty to parsers, at growing sizes up to a megabyte.

Counted are the calls of functions, ours and the interpreter's, at one size and at four times that size: four times
the input must not be more than about four times the work. What one call copies or searches no count shows: the
processor's time is taken, at sizes that grow fourfold until it can be told apart from noise, or until a megabyte is
reached. Where the square of the size is at work, each step costs sixteen times the one before.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.fuzz.streams import STREAMS, Stream
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SHAPES = (
    *(b"<", b">", b"(", b")", b"()", b'"', b"\\a", b":", b";", b","),
    *(b"@r,", b"a@b,", b"a b ", b"@", b".", b"[", b"`"),
    *(b"x", b" ", b"\n", b"\n ", b"\r\n", b"\r", b"\0", b"\xe9", b"A:b\n", b"A:b\r\n", b"To: a\n", b"\r\n.", b"0:,"),
    *(b"--b\r\n", b"=", b"\xc0\x0c", b"\x91", b"$x", b"\nFrom x\n", b"250-x\r\n", b"%", b"|", b"> to <", b"-", b"/"),
)
IN_PIECES = (b"x", b"<", b" ", b"\n", b"\r\n", b"\r", b"\r\n.", b"\0", b"0:,", b"250-x\r\n", b"A:b\n", b"> to <")
"""The shapes that are given to what reads piece by piece."""

TIMES = 4
CALLED = 800
"""Octets of the smaller input where calls are counted."""

_MORE_CALLS = 6.0

SMALLEST, LARGEST = 4096, 1 << 20
"""Octets where time is taken first and last."""

_MORE_SECONDS = 8.0
"""Steps from one size to the next, of which two in a row must be larger than this to count: memory that no longer
fits into a cache makes one such step."""

_ENOUGH = 0.001
"""Processor seconds from which on a step tells something."""

_TRIES = 3
"""How often a step is looked at before it counts: the least time is the parser's own."""

_LOOKS = 5


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_work_grows_with_the_input(target: Target) -> None:
    with _no_collector():
        for begin in target.begins:
            for shape in SHAPES:
                why = more_calls(target, begin, shape) or slower(
                    lambda size, begin=begin, shape=shape: seconds(target.run_alone, grown(begin, shape, size))
                )
                assert not why, f"{begin!r} {shape!r}: {why}"


@pytest.mark.parametrize("stream", STREAMS, ids=[stream.name for stream in STREAMS])
def test_work_grows_with_what_comes_in_pieces(stream: Stream) -> None:
    with _no_collector():
        for octets in (1, 512):
            for begin in stream.begins:
                for shape in IN_PIECES:
                    why = slower(
                        lambda size, begin=begin, shape=shape, octets=octets: seconds(
                            stream.hear, cut(grown(begin, shape, size), octets)
                        )
                    )
                    assert not why, f"{begin!r} {shape!r} in pieces of {octets}: {why}"


@contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def more_calls(target: Target, begin: bytes, shape: bytes) -> str:
    """Why the calls are too many; empty if they are not."""
    fewer, more = (calls(target, grown(begin, shape, size)) for size in (CALLED, TIMES * CALLED))
    return f"{fewer} calls become {more}" if more > _MORE_CALLS * fewer + 500 else ""


def slower(measure: Callable[[int], float]) -> str:
    """Why time grows too fast; empty if it does not. ``measure`` gives seconds for a size."""
    size, last = SMALLEST, measure(SMALLEST)
    while last < _ENOUGH and size < LARGEST:
        size *= TIMES
        now = measure(size)
        if now > _ENOUGH and now > _MORE_SECONDS * last:
            sizes = (size // TIMES, size, size * TIMES)
            short, middle, long = (min(measure(each) for _ in range(_TRIES)) for each in sizes)
            if middle > _MORE_SECONDS * short and long > _MORE_SECONDS * middle:
                return f"{short:.4f}, {middle:.4f} and {long:.4f} seconds for {sizes} octets"
        last = now
    return ""


def test_a_parser_that_grows_too_fast_is_seen() -> None:
    def copies(data: bytes) -> None:
        for at in range(0, len(data), 16):
            data[at:].count(b"x" * 9)

    def asks_again(data: bytes) -> None:
        for _ in data:
            for at in range(0, len(data), 8):
                data.find(b"y", at, at + 1)

    def keeps(said: Iterator[bytes]) -> None:
        kept = b""
        for piece in said:
            kept += piece

    # One look misses it when the machine was slow with a small input just then.
    assert any(slower(lambda size: seconds(copies, grown(b"", b"x", size))) for _ in range(_LOOKS))
    assert any(slower(lambda size: seconds(keeps, cut(grown(b"", b"x", size), 64))) for _ in range(_LOOKS))
    assert not slower(lambda size: seconds(bytes.upper, grown(b"", b"x", size)))
    assert "calls" in more_calls(Target("again", asks_again), b"", b"x")


def grown(begin: bytes, shape: bytes, size: int) -> bytes:
    """An input of about ``size`` octets, and an end that fits nothing."""
    return begin + shape * (size // len(shape)) + b"\xff"


def calls(target: Target, data: bytes) -> int:
    """How many functions are called while ``data`` is parsed."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        target.run_alone(data)
    finally:
        sys.setprofile(before)
    return count


def cut(data: bytes, octets: int) -> list[bytes]:
    """The data in pieces of so many octets."""
    return [data[at : at + octets] for at in range(0, len(data), octets)]


def seconds(parse: Callable[[Any], object], data: bytes | list[bytes]) -> float:
    """Processor seconds for ``data``."""
    began = time.process_time()
    parse(data)
    return time.process_time() - began

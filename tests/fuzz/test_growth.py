"""Work grows as inputs do: shapes that are nasty to parsers, at one size and at four times that size.

Counted are the calls of functions, ours and the interpreter's, and the processor's time where octets are copied or
searched within one call. Four times the input must not be more than about four times the work; sixteen times is what
is looked for.
"""

from __future__ import annotations

import gc
import sys
import time

import pytest
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SHAPES = (
    *(b"<", b">", b"(", b")", b"()", b'"', b"\\a", b":", b";", b","),
    *(b"@r,", b"a@b,", b"a b ", b"@", b".", b"[", b"`"),
    *(b"x", b" ", b"\n", b"\n ", b"\r\n", b"\r", b"\0", b"\xe9", b"A:b\n", b"A:b\r\n", b"To: a\n", b"\r\n.", b"0:,"),
    *(b"--b\r\n", b"=", b"\xc0\x0c", b"\x91", b"$x", b"\nFrom x\n", b"250-x\r\n", b"%", b"|", b"> to <", b"-", b"/"),
)
TIMES = 4
CALLED = 800
TIMED = 3000
"""Octets of the smaller input, where calls are counted and where time is taken."""

_MORE_CALLS = 6.0
_MORE_SECONDS = 9.0
_NOTHING = 0.05
"""Processor seconds below which nothing can be said, and nothing is wrong."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_work_grows_with_the_input(target: Target) -> None:
    gc.collect()
    gc.disable()
    try:
        for begin in target.begins:
            for shape in SHAPES:
                if why := too_much(target, begin, shape):
                    # Once more, for something else may have taken the processor's caches.
                    assert not too_much(target, begin, shape), f"{begin!r} {shape!r}: {why}"
    finally:
        gc.enable()


def too_much(target: Target, begin: bytes, shape: bytes) -> str:
    """What grows faster than it should; empty if nothing does."""
    fewer, more = (calls(target, grown(begin, shape, size)) for size in (CALLED, TIMES * CALLED))
    if more > _MORE_CALLS * fewer + 500:
        return f"{fewer} calls become {more}"
    short, long = (seconds(target, grown(begin, shape, size)) for size in (TIMED, TIMES * TIMED))
    if long > _NOTHING and long > _MORE_SECONDS * short:
        return f"{short:.4f} seconds become {long:.4f}"
    return ""


def test_a_parser_that_grows_too_fast_is_seen() -> None:
    def goes_back(data: bytes) -> None:
        for at in range(0, len(data), 4):
            data[at:].count(b"x" * 9)

    def asks_again(data: bytes) -> None:
        for _ in data:
            for at in range(0, len(data), 8):
                data.find(b"y", at, at + 1)

    assert "seconds" in too_much(Target("back", lambda data: [goes_back(data) for _ in range(60)]), b"", b"x")
    assert "calls" in too_much(Target("again", asks_again), b"", b"x")


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


def seconds(target: Target, data: bytes) -> float:
    """Processor seconds for ``data``."""
    began = time.process_time()
    target.run_alone(data)
    return time.process_time() - began

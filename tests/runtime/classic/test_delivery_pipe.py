"""qmail-send's end of the pipes, with the other end held by the test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.runtime.classic.delivery_pipe import REPORT, DeliveryPipe


class Ends:
    """A DeliveryPipe and the descriptors of the spawner's side; what was reported, in order."""

    def __init__(self, most: int = 3) -> None:
        self.loop = asyncio.new_event_loop()
        self.commands, to = os.pipe()
        back, self.reports = os.pipe()
        self.reported: list[tuple[str, bytes]] = []
        self.strange = 0
        self.ended: list[list[str]] = []
        self.pipe: DeliveryPipe[str] = DeliveryPipe(
            self.loop, to, back, most, lambda *report: self.reported.append(report), self._strange, self.ended.append
        )
        self._ours = [to, back]

    def _strange(self) -> None:
        self.strange += 1

    def turn(self) -> None:
        """Let the loop do what is ready."""
        for _ in range(3):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def read(self) -> bytes:
        return os.read(self.commands, 100_000)

    def close(self) -> None:
        self.loop.close()
        for descriptor in (*self._ours, self.commands, self.reports):
            os.close(descriptor)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_commands_and_reports(ends: Ends) -> None:
    ends.pipe.start("a", b"7/30", b"s@b", b"r@c")
    ends.pipe.start("b", b"7/30", b"", b"q@c")
    assert ends.read() == b"\x007/30\0s@b\0r@c\0\x017/30\0\0q@c\0"
    os.write(ends.reports, b"\x01Kfine\n\0\0Dno\n\0")
    ends.turn()
    assert ends.reported == [("b", b"Kfine\n"), ("a", b"Dno\n")]


def test_what_has_no_number_waits_for_one(ends: Ends) -> None:
    for name in "abcde":
        ends.pipe.start(name, b"1", b"", name.encode())
    assert ends.read().count(b"\0\0") == 3
    os.write(ends.reports, b"\x02K\0")
    ends.turn()
    assert ends.read() == b"\x021\0\0d\0"


def test_reports_on_nothing(ends: Ends) -> None:
    ends.pipe.start("a", b"1", b"", b"a")
    os.write(ends.reports, b"\x09K\0\0K\0\0K\0")
    ends.turn()
    assert (ends.reported, ends.strange) == ([("a", b"K")], 2)


def test_a_report_is_cut(ends: Ends) -> None:
    ends.pipe.start("a", b"1", b"", b"a")
    ends.pipe.start("b", b"1", b"", b"b")
    for piece in (b"\0K" + b"x" * 50_000, b"x" * 10_000 + b"\0\x01Kb\0"):
        os.write(ends.reports, piece)
        ends.turn()
    assert ends.reported == [("a", b"K" + b"x" * (REPORT - 1)), ("b", b"Kb")]


def test_more_than_the_pipe_takes_follows(ends: Ends) -> None:
    ends.pipe.start("a", b"1", b"", b"x" * 200_000)
    got = b""
    while not got.endswith(b"\0") or len(got) < 200_000:
        got += ends.read()
        ends.turn()
    assert got == b"\x001\0\0" + b"x" * 200_000 + b"\0"


def test_the_end_gives_back_what_was_not_reported(ends: Ends) -> None:
    for name in "abcd":
        ends.pipe.start(name, b"1", b"", name.encode())
    os.write(ends.reports, b"\x01K\0")
    os.dup2(ends.commands, ends.reports)
    ends.turn()
    assert [sorted(keys) for keys in ends.ended] == [["a", "c", "d"]]
    assert not ends.pipe.alive


def test_writing_to_nobody_is_the_end(ends: Ends) -> None:
    os.dup2(ends.reports, ends.commands)
    ends.pipe.start("a", b"1", b"", b"a")
    assert ends.ended == []
    ends.turn()
    assert ends.ended == [["a"]]


@given(st.binary(max_size=40), st.lists(st.integers(1, 39), max_size=6))
def test_it_does_not_matter_how_reports_come(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for places in ([], sorted(set(cuts))):
        ends = Ends()
        for name in "abc":
            ends.pipe.start(name, b"1", b"", name.encode())
        for start, end in zip([0, *places], [*places, len(data)], strict=True):
            if data[start:end]:
                os.write(ends.reports, data[start:end])
                ends.turn()
        outcomes.append((ends.reported, ends.strange))
        ends.close()
    assert outcomes[0] == outcomes[1]

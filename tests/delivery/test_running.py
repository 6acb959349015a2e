"""Programs beside other work: their output, their end, and those that do not end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.processes import is_alive, kill, wait_until

from ekiden.delivery.content import WireContent
from ekiden.delivery.letter import Letter
from ekiden.delivery.report import DEFERRED, FAILED, REPORT_OCTETS, Trouble
from ekiden.delivery.running import run


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    monkeypatch.chdir(tmp_path)
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def outcome(loop: asyncio.AbstractEventLoop, home: Path, command: bytes, seconds: float = 60) -> tuple[object, bytes]:
    """Answer and output of a command."""
    content = WireContent(b"Subject: x\r\n\r\n")
    letter = Letter(b"joe", os.fsencode(home), b"joe", b"", b"", b"x", b"a@b", b"", content, 0.0)
    answers: list[int | Trouble] = []

    def done(answer: int | Trouble) -> None:
        answers.append(answer)
        loop.stop()

    before = len(os.listdir("/proc/self/fd"))
    run(loop, command, letter, {b"PATH": b"/bin:/usr/bin"}, done, seconds)
    loop.run_forever()
    content.close()
    assert len(os.listdir("/proc/self/fd")) == before
    return answers[0], letter.output


def test_output_is_kept(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    assert outcome(loop, tmp_path, b"cat; echo out; echo err >&2") == (0, b"Subject: x\n\nout\nerr\n")


def test_exit_codes(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    assert outcome(loop, tmp_path, b"exit 99")[0] == 1
    failed, _output = outcome(loop, tmp_path, b"echo no; exit 100")
    assert isinstance(failed, Trouble)
    assert (failed.verdict, failed.text) == (FAILED, "")


def test_endless_output_is_not_kept(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    answer, output = outcome(loop, tmp_path, b"head -c 3000000 /dev/zero | tr '\\0' x")
    assert answer == 0
    assert REPORT_OCTETS < len(output) < 2 * REPORT_OCTETS + 2


def test_a_program_that_does_not_end_is_ended_with_its_children(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    answer, _output = outcome(loop, tmp_path, b"(sleep 1000 & echo $! > child); sleep 1000", seconds=5)
    assert isinstance(answer, Trouble)
    assert (answer.verdict, answer.text) == (DEFERRED, "A program took too long and was ended. (#4.3.0)")
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child), "the program's child has ended")


def test_a_daemon_left_behind_is_not_waited_for(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    answer, output = outcome(loop, tmp_path, b"sleep 1000 & echo $!")
    assert answer == 0
    daemon = int(output)
    assert is_alive(daemon)
    kill(daemon)

"""qmail-clean as qmail-send talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peers.processes import wait_until

from ekiden.programs.qmail_clean import carry_out
from ekiden.runtime.classic.message_files import OSSIFIED

COMMAND = [sys.executable, "-m", "ekiden.cli"]


@pytest.fixture
def queue(place: Path) -> Path:
    queue = place / "queue"
    for name in ("mess/20", "intd", "todo", "pid"):
        (queue / name).mkdir(parents=True)
    for name in ("mess/20/457", "intd/457", "todo/457", "intd/8", "todo/8", "mess/20/20"):
        (queue / name).touch()
    return queue


def left(queue: Path) -> set[str]:
    return {str(path.relative_to(queue)) for path in queue.rglob("*") if path.is_file()}


def clean(queue: Path, commands: bytes) -> bytes:
    done = subprocess.run(
        [*COMMAND, "--home", str(queue.parent), "qmail-clean"], input=commands, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def start(queue: Path) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "--home", str(queue.parent), "qmail-clean"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def test_foop_and_todo(queue: Path) -> None:
    assert clean(queue, b"foop/457\0todo/8\0foop/457\0") == b"+++"
    assert left(queue) == {"todo/457", "mess/20/20"}


def test_what_is_no_command_removes_nothing(queue: Path) -> None:
    before = left(queue)
    commands = [
        b"",
        b"foop/",
        b"foo/8",
        b"foop/8x",
        b"foop/8/8",
        b"foop/../8",
        b"mess/8",
        b"foop/-8",
        b" foop/8",
        b"foop/8\n",
        b"foop/\xb2",
        b"foop/" + b"0" * 94 + b"8",
        b"x" * 100_000,
    ]
    assert clean(queue, b"\0".join(commands) + b"\0foop/999999\0") == b"x" * len(commands) + b"+"
    assert left(queue) == before


def test_a_command_that_does_not_end_is_not_carried_out(queue: Path) -> None:
    before = left(queue)
    assert clean(queue, b"foop/457") == b""
    assert left(queue) == before


def test_one_answer_at_a_time_byte_by_byte(queue: Path) -> None:
    with start(queue) as cleaner:
        assert cleaner.stdin and cleaner.stdout
        for command in (b"foop/457\0", b"bad\0", b"todo/8\0"):
            for octet in command:
                cleaner.stdin.write(bytes((octet,)))
            assert cleaner.stdout.read(1) == (b"x" if command == b"bad\0" else b"+")
        cleaner.stdin.close()
    assert cleaner.returncode == 0
    assert left(queue) == {"todo/457", "mess/20/20"}


def test_a_file_that_cannot_be_removed(queue: Path) -> None:
    (queue / "mess" / "20" / "43").mkdir()
    assert clean(queue, b"foop/43\0todo/8\0") == b"!+"


def test_old_files_in_pid_are_removed(queue: Path) -> None:
    now = time.time()
    for name, age in (("old", OSSIFIED + 60), ("new", OSSIFIED - 600)):
        (queue / "pid" / name).touch()
        os.utime(queue / "pid" / name, (now - age, now))
    clean(queue, b"")
    assert [path.name for path in (queue / "pid").iterdir()] == ["new"]


def test_old_files_are_removed_again_after_thirty_commands(queue: Path) -> None:
    with start(queue) as cleaner:
        assert cleaner.stdin and cleaner.stdout
        cleaner.stdin.write(b"foop/1\0" * 29)
        for _ in range(29):
            assert cleaner.stdout.read(1) == b"+"
        old = queue / "pid" / "old"
        old.touch()
        os.utime(old, (0, 0))
        cleaner.stdin.write(b"foop/1\0")
        assert cleaner.stdout.read(1) == b"+"
        wait_until(lambda: not old.exists(), "removal of the old file")
        cleaner.stdin.close()


def test_without_a_queue(place: Path) -> None:
    done = subprocess.run([*COMMAND, "--home", str(place), "qmail-clean"], stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 111


@given(st.binary(max_size=120))
def test_nothing_but_the_two_commands_is_understood(command: bytes) -> None:
    word, slash, digits = command.partition(b"/")
    if not (word in (b"foop", b"todo") and slash and digits.isdigit()):
        assert carry_out(command) == b"x"

"""Messages as files in queue/mess."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ekiden.runtime.classic.message_files import DIRECTORIES, OSSIFIED, SPLIT, MessageFiles


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    for name in DIRECTORIES:
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_one_file_for_all_deliveries_of_a_message(queue: Path) -> None:
    removed: list[int] = []
    files = MessageFiles(queue, removed.append)
    name = files.take(5, lambda: (b"a\n", b"b\n"))
    assert files.take(5, lambda: (b"other",)) == name
    path = queue / "mess" / name.decode()
    assert path.read_bytes() == b"a\nb\n"
    number = path.stat().st_ino
    assert name == b"%d/%d" % (number % SPLIT, number)
    assert path.stat().st_mode & 0o777 == 0o644
    files.release(5)
    assert removed == []
    files.release(5)
    assert removed == [number]
    assert list((queue / "pid").iterdir()) == []


def test_what_cannot_be_read_leaves_nothing(queue: Path) -> None:
    def chunks() -> list[bytes]:
        raise OSError("unreadable")

    files = MessageFiles(queue, lambda _number: None)
    with pytest.raises(OSError, match="unreadable"):
        files.take(5, chunks)
    assert not [path for path in queue.rglob("*") if path.is_file()]
    assert files.take(5, lambda: (b"now",))


def test_a_failed_write_leaves_nothing(queue: Path) -> None:
    def chunks() -> object:
        yield b"a"
        raise OSError("unreadable")

    files = MessageFiles(queue, lambda _number: None)
    with pytest.raises(OSError, match="unreadable"):
        files.take(5, chunks)  # type: ignore[arg-type]
    assert not [path for path in queue.rglob("*") if path.is_file()]


def test_leftovers(queue: Path) -> None:
    files = MessageFiles(queue, lambda _number: None)
    mine = int(files.take(5, lambda: (b"a",)).partition(b"/")[2])
    now = time.time()
    for number in (3, 26, 49, 72, 95):
        path = queue / "mess" / "3" / str(number)
        path.touch()
        os.utime(path, (now - OSSIFIED - (60 if number != 26 else -60), now))
    (queue / "mess" / "3" / "x").touch()
    os.utime(queue / "mess" / str(mine % SPLIT) / str(mine), (0, 0))
    (queue / "todo" / "49").touch()
    (queue / "info" / "3").mkdir()
    (queue / "info" / "3" / "72").touch()
    assert sorted(files.leftovers(now)) == [3, 95]

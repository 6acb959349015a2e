"""A home's locks: one holder each, and whoever only looks for a moment keeps nobody off."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.runtime.locks import hold_home, hold_queue, holder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("run", "queue"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_home_has_one_holder_whose_process_it_names(home: Path) -> None:
    (home / "run" / "lock").write_text("123456789 and more\n")
    (home / "run" / "lock").chmod(0o666)
    held = hold_home(home)
    assert (home / "run" / "lock").read_text() == f"{os.getpid()}\n"
    assert (home / "run" / "lock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BlockingIOError):
        hold_home(home)
    os.close(held)
    os.close(hold_home(home))


def test_whoever_serves_the_home_can_be_seen(home: Path) -> None:
    assert holder(home) == 0
    held = hold_home(home)
    assert holder(home) == os.getpid()
    os.close(held)
    assert holder(home) == 0


def test_the_queue_has_one_holder(home: Path) -> None:
    held = hold_queue(home / "queue", 0)
    with pytest.raises(BlockingIOError):
        hold_queue(home / "queue", 0)
    os.close(held)
    os.close(hold_queue(home / "queue", 0))


@pytest.mark.parametrize(
    ("name", "hold"),
    [("run/lock", hold_home), ("queue/lock", lambda home: hold_queue(home / "queue", 60))],
)
def test_a_lock_that_is_held_for_a_moment_is_waited_for(home: Path, name: str, hold: Callable[[Path], int]) -> None:
    looking = os.open(home / name, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_SH)
    # Longer than one who serves the home has to end: on a busy machine that is a moment, too.
    moment = threading.Timer(1, os.close, (looking,))
    moment.start()
    os.close(hold(home))
    moment.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_leaves_the_queue_s_lock_to_its_owner(home: Path) -> None:
    os.chown(home / "queue", 12345, 23456)
    os.close(hold_queue(home / "queue", 0))
    status = (home / "queue" / "lock").stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)


@pytest.mark.parametrize("hold", [hold_home, lambda home: hold_queue(home / "queue", 0)])
def test_no_link_is_followed(home: Path, hold: Callable[[Path], int]) -> None:
    for name in ("run", "queue"):
        (home / name / "lock").symlink_to(home / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        hold(home)
    assert not (home / "elsewhere").exists()

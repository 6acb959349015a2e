"""``ekiden queue recover`` killed in the place of each system call that changes a file, and then done again."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from tests.crash import tracing
from tests.queue import damaging
from tests.queue.damaging import contents
from tests.queue.test_recovery import make

from ekiden.commands import run_command

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]

SAMPLE = 15
"""Random points of those that write or synchronise, beside all that change names; all with ``--every-point``."""

DAMAGED = 0, 4096
"""Which page of the file is overwritten: the first one, so that every tree is found without the schema."""


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    home = tmp_path / "damaged"
    home.mkdir()
    make(home)
    start, size = DAMAGED
    with (home / "queue" / damaging.FILE).open("r+b") as file:
        file.seek(start)
        file.write(random.Random(1).randbytes(size))
    return home


@pytest.mark.timeout(1800)
def test_killed_anywhere_and_done_again(damaged: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    home, log = tmp_path / "home", tmp_path / "log"

    def work() -> None:
        run_command(["--home", str(home), "queue", "recover"], home)

    def renew() -> None:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(damaged, home)

    renew()
    assert tracing.traced(work, log) == 0
    # Files are opened by imports too, the first time, and lines are written as they come.
    points = [point for point in tracing.points(list(tracing.read(log))) if point[0] not in ("openat", "write")]
    original = (damaged / "queue" / damaging.FILE).read_bytes()
    expected = contents(home / "queue")
    assert len(expected) > 80
    if not pytestconfig.getoption("--every-point"):
        writes = [point for point in points if "write" in point[0] or "sync" in point[0]]
        chosen = random.Random(pytestconfig.getoption("--seed") or 0).sample(writes, SAMPLE)
        points = [point for point in points if point not in writes or point in chosen]
    for point in points:
        renew()
        assert tracing.killed_at(work, point, log), f"not killed at {point}"
        work()
        assert contents(home / "queue") == expected, f"killed at {point}"
        kept = [path.read_bytes() for path in (home / "queue").glob(f"damaged-*/{damaging.FILE}")]
        assert original in kept, f"killed at {point}: the damaged store is gone"
    print(f"{len(points)} points")

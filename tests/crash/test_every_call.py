"""kill -9 in the place of every system call that changes a file or tells somebody, for each kind of the queue's work.

The engine and the store are the queue role's own; every run is started anew from the files that the kill left.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.crash import mailboxes, tracing
from tests.crash.bench import Bench
from tests.crash.work import KINDS as QUEUE_KINDS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]


KINDS = QUEUE_KINDS | mailboxes.KINDS

SAMPLED = {"program and forward"}
"""Work of several processes, a second for each point: eight random points, or all with ``--every-point``."""

ONCE = {"take over", "deferral", "hold, release", "delete", "requeue", "schema upgrade"}
"""Work that nobody who tries again can double."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_every_call_loses_nothing(memory: Path, kind: str, pytestconfig: pytest.Config) -> None:
    bench = Bench(memory, KINDS[kind])
    assert tracing.traced(bench.renew(), bench.log) == 0
    assert bench.told.read_text() or kind == "deferral", "the work tells nothing"
    points = tracing.points(list(tracing.read(bench.log)))
    whole = bench.books()
    assert whole and not whole.duplicates, whole
    duplicates: Counter[str] = Counter()
    if kind in SAMPLED and not pytestconfig.getoption("--every-point"):
        points = random.Random(pytestconfig.getoption("--seed")).sample(points, 8)
    missed = []
    for point in points:
        if not tracing.killed_at(bench.renew(), point, bench.log):
            missed.append(point)
        books = bench.books()
        assert books, f"killed at {point}: {books}; told {bench.told.read_text()!r}"
        duplicates += books.duplicates
    print(f"{kind}: {len(points)} points, {sum(duplicates.values())} duplicates {dict(duplicates)}")
    # A busy machine can move a call once in a while; the work was then done whole, and its books were looked at.
    assert points and len(missed) <= 1 + len(points) // 20, f"not killed at {missed}"
    assert not (duplicates and kind in ONCE)

"""The power fails at every point: each state that the disk may be in, as a trace tells, is built and started on.

Acknowledged is what was told before the power failed. ``--states N`` adds N random choices of unsynced changes at
each point to the exhaustive prefixes, ``--seed S`` repeats them.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.crash import mailboxes, tracing
from tests.crash.bench import Bench
from tests.crash.desk import Books, Desk, Tell
from tests.crash.disk import Choice, Disk, Tree
from tests.crash.work import KINDS as QUEUE_KINDS
from tests.crash.work import OTHER, Work, empty, inject

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]

KINDS = {kind: work for kind, work in (QUEUE_KINDS | mailboxes.KINDS).items() if kind != "program and forward"}

RESERVE = "reserve"
"""Holds nothing: the store makes it anew."""


def states(bench: Bench, choice: Choice) -> Iterator[tuple[Tree, list[str]]]:
    """Each different state of the disk with what had been told."""
    assert tracing.traced(bench.renew(), bench.log) == 0
    disk = Disk(bench.run, bench.tree(), bench.told)
    seen: set[bytes] = set()
    for moment in disk.moments(list(tracing.read(bench.log))):
        for kept in choice.of(moment):
            tree = disk.state(kept)
            tree.pop(RESERVE, None)
            parts = [f"{path} {len(tree[path])} ".encode() + tree[path] for path in sorted(tree)]
            digest = hashlib.sha256(b"".join(parts) + repr(moment.told).encode()).digest()
            if digest not in seen:
                seen.add(digest)
                yield tree, moment.told


def settled(bench: Bench, choice: Choice) -> Iterator[tuple[Books, list[str]]]:
    for tree, told in states(bench, choice):
        bench.lay_out(tree)
        yield bench.books(told), told


@pytest.mark.parametrize("kind", KINDS)
def test_no_state_of_the_disk_loses_anything(memory: Path, kind: str, pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("--seed")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    choice = Choice(pytestconfig.getoption("--states"), random.Random(seed))
    count, duplicates = 0, Counter[str]()
    for books, told in settled(Bench(memory, KINDS[kind]), choice):
        count += 1
        assert books, f"state {count} with seed {seed}: {books}; told {told}"
        duplicates += books.duplicates
    print(f"{kind}: {count} states, {sum(duplicates.values())} duplicates {dict(duplicates)}")
    assert count >= 10


def careless_store(directory: Path, tell: Tell) -> None:
    """Take a message in with a log that is not synced."""
    desk = Desk(directory, tell)
    desk.store._db.connection.execute("PRAGMA synchronous = OFF")
    desk.inject(1, *OTHER)
    desk.commit()


def careless_spool(directory: Path, tell: Tell) -> None:
    """Take a large message in without a sync of its file and the file's directory."""
    os.fsync = lambda _descriptor: None  # in this child only
    inject(9)(directory, tell)


def careless_segment(directory: Path, tell: Tell) -> None:
    """Take a message in whose segment is not synced; the store's own syncs are SQLite's."""
    os.fdatasync = lambda _descriptor: None  # in this child only
    inject(5)(directory, tell)


@pytest.mark.parametrize(("act", "number"), [(careless_store, 1), (careless_segment, 5), (careless_spool, 9)])
def test_what_is_not_synced_is_found_lost(memory: Path, act: Callable[[Path, Tell], None], number: int) -> None:
    """The test of the test: where a sync is left out, accepted mail is lost in some state, and it is seen."""
    bench = Bench(memory, Work(empty, act, (number,)))
    wrong = [books.wrong for books, told in settled(bench, Choice(0)) if told]
    assert any("1 lost" in text for texts in wrong for text in texts)

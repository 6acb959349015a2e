"""An error of the machine in the place of every system call, once and lasting, for each kind of work.

Nobody is told of success for what is not on disk, which is looked at twice: with the files as they are, and with what
a power failure just then leaves of them. When the error is gone the work is done again, and the books must balance.
A sample is tried; ``--every-point`` tries all, with ``--part 1/4`` every fourth of them.
"""

from __future__ import annotations

import os
import random
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.crash import mailboxes
from tests.crash.bench import Bench
from tests.crash.desk import Tell
from tests.crash.faults import books_after, chosen, faults, happened, work_traced
from tests.crash.mailboxes import BEGIN
from tests.crash.work import KINDS as QUEUE_KINDS
from tests.crash.work import Work, empty, inject

import ekiden

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]

KINDS = QUEUE_KINDS | mailboxes.KINDS

SAMPLE = 6
"""Faults tried of each kind of work, of some hundreds."""

EXIT_CODES = {
    "qmail-queue, small": {0, *range(51, 64)},
    "qmail-queue, large": {0, *range(51, 64)},
    "Maildir": {0, 111},
    "mbox": {0, 111},
    "program and forward": {0, 111},
}
"""Trouble that may pass, and success."""

SEVERAL = {"program and forward"}
"""Work of several processes, of which the disk's model knows nothing."""

ENDED = re.compile(r"^ended|^exit [^0]", re.MULTILINE)

BUGS = {"AssertionError", "AttributeError", "IndexError", "KeyError", "NameError", "TypeError", "UnboundLocalError"}


class Quietly:
    """The work of the queue role, which ends by whatever goes wrong; of its own it tells by what."""

    def __init__(self, work: Work) -> None:
        self.prepare, self.finish = work.prepare, work.finish
        self._act = work.act

    def act(self, directory: Path, tell: Tell) -> None:
        tell(BEGIN)
        try:
            self._act(directory, tell)
        except Exception as error:
            tell(f"ended {type(error).__name__}: {error}")
            sys.exit(1)


def problems(kind: str, bench: Bench, told: str) -> list[str]:
    """What nobody should see of the fault."""
    words = [line.split() for line in told.splitlines()]
    ours = str(Path(ekiden.__file__).parent), str(bench.run)
    found = [f"ended by a bug: {line}" for line in words if line[0] == "ended" and line[1].rstrip(":") in BUGS]
    codes = {int(line[1]) for line in words if line[0] == "exit"}
    if kind in EXIT_CODES and not codes <= EXIT_CODES[kind]:
        found.append(f"exit code {codes}")
    said = bench.run / "said"
    # An interpreter that cannot start as it should says so in its own way.
    text = said.read_text() if said.exists() else ""
    if "Traceback" in text and any(f'File "{place}' in text for place in ours):
        found.append(text)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_at_every_call_loses_nothing(memory: Path, kind: str, pytestconfig: pytest.Config) -> None:
    work = KINDS[kind]
    bench = Bench(memory, Quietly(work) if isinstance(work, Work) else work)
    every = list(faults(work_traced(bench.renew(), bench.log)))
    assert bench.books()
    seed = pytestconfig.getoption("--seed")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    part, parts = map(int, pytestconfig.getoption("--part").split("/"))
    some = every[part - 1 :: parts]
    tried = some if pytestconfig.getoption("--every-point") else chosen(every, SAMPLE, random.Random(seed))
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    for fault in tried:
        books, afterwards, told = books_after(bench, fault, power=kind not in SEVERAL)
        if not happened(bench.log):
            outcomes["did not happen"] += 1
            continue
        faulty = problems(kind, bench, told) + books.wrong
        faulty += [f"after a power failure: {problem}" for problem in afterwards.wrong]
        wrong += [f"{fault}: {problem}; told {told!r}" for problem in faulty]
        outcomes["ended" if ENDED.search(told) else "went on"] += 1
    print(f"{kind}: {len(tried)} faults of {len(every)} with seed {seed}: {dict(outcomes)}")
    assert not wrong, "\n".join(wrong)
    assert outcomes["went on"] + outcomes["ended"] >= min(SAMPLE, len(tried)) // 2


def careless(directory: Path, tell: Tell) -> None:
    """Takes a message in, and does not mind whether its file could be synced."""
    real = os.fsync

    def lenient(descriptor: int) -> None:
        try:
            real(descriptor)
        except OSError:
            real(descriptor)

    os.fsync = lenient
    inject(9)(directory, tell)


def test_a_sync_that_is_tried_again_is_found_out(memory: Path) -> None:
    """The test of the test: what a failed sync has forgotten is not on the disk though the next sync succeeds."""
    bench = Bench(memory, Quietly(Work(empty, careless, (9,))))
    syncs = [one for one in faults(work_traced(bench.renew(), bench.log)) if one.point[0] == "fsync"]
    seen = [books_after(bench, fault)[1] for fault in syncs if fault.error == "EIO" and not fault.lasting]
    assert any(not books for books in seen)

"""Random .qmail files, failing programs, full disks and killed processes: every message ends as dot-qmail(5) says.

What is expected is worked out by a model of its own, which shares nothing with the code under test but the manual
pages. ``--deliveries N`` says how many, ``--seed`` repeats a run.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.roles.test_local import CONTENT, ROOT, Queue, own

from ekiden.base.outcome import Outcome, Verdict

BATCH = 50
HARD = {100, 64, 65, 70, 76, 77, 78, 112}
DEADLY = {1: "HUP", 9: "KILL", 11: "SEGV", 13: "PIPE", 15: "TERM"}


class Expected:
    """What one delivery comes to: its verdict, and what is left of it."""

    def __init__(self) -> None:
        self.verdict = Verdict.DELIVERED
        self.status = "2.0.0"
        self.maildir = 0
        self.mbox = 0
        self.default = 0
        self.programs: list[int] = []
        self.forwards: list[bytes] = []

    def ends(self, verdict: Verdict, status: str) -> Expected:
        """It ends here, and nothing is forwarded."""
        self.verdict, self.status, self.forwards = verdict, status, []
        return self


class Case:
    """One .qmail file. ``text`` None: there is none."""

    def __init__(self, number: int, text: str | None, mode: int, loops: bool) -> None:
        self.number = number
        self.text = text
        self.mode = mode
        self.loops = loops

    def expected(self) -> Expected:
        """dot-qmail(5), qmail-local(8) and qmail-command(8), and docs/local.md for where we differ."""
        result = Expected()
        if self.loops:
            return result.ends(Verdict.FAILED, "5.4.6")
        if self.text is None:
            return result.ends(Verdict.FAILED, "5.1.1")
        if self.mode & 0o002:
            return result.ends(Verdict.DEFERRED, "4.7.0")
        if not self.text:
            result.default = 1
            return result
        lines = [line.rstrip(" \t") for line in self.text.removesuffix("\n").split("\n")]
        if not lines[0]:
            return result.ends(Verdict.DEFERRED, "4.2.1")
        if self._is_refused_at_once(lines):
            return result.ends(Verdict.DEFERRED, "4.7.0")
        return self._follow(lines, result)

    def _is_refused_at_once(self, lines: list[str]) -> bool:
        """A file or program line where only forwards may be, and no program before it that might end the file."""
        forward_only = bool(self.mode & 0o100)
        for line in lines:
            if line.startswith("+list"):
                forward_only = True
            elif line[:1] in ("|", ".", "/") and forward_only:
                return True
            elif line.startswith("|"):
                return False
        return False

    def _follow(self, lines: list[str], result: Expected) -> Expected:
        forward_only = bool(self.mode & 0o100)
        for at, line in enumerate(lines):
            kind = line[:1]
            if line.startswith("+list"):
                forward_only = True
            elif kind in ("|", ".", "/") and forward_only:
                return result.ends(Verdict.DEFERRED, "4.7.0")
            elif kind == "|":
                result.programs.append(at)
                code = meaning(line)
                if code == 99:
                    return result
                if code:
                    verdict = Verdict.FAILED if code in HARD else Verdict.DEFERRED
                    return result.ends(verdict, "5.3.0" if code in HARD else "4.3.0")
            elif kind in (".", "/"):
                if line == "./box/":
                    result.maildir += 1
                elif line == "./mbox":
                    result.mbox += 1
                else:
                    return result.ends(Verdict.DEFERRED, "4.3.1" if "full" in line else "4.2.1")
            elif kind not in ("", "#", "+"):
                result.forwards.append(line.lstrip("&").encode())
        return result


def meaning(line: str) -> int:
    """The exit code of a program line; -1 for one that is ended by a signal."""
    match = re.search(r"exit (\d+)", line)
    return int(match[1]) if match else -1


def random_lines(chance: random.Random, number: int) -> Iterator[str]:
    files = ["./box/", "./mbox", "./box/", "./mbox", "./missing/", "./box"]
    if ROOT:
        files += ["./full/box/", "./full/mbox"]
    for at in range(chance.randint(1, 6)):
        mark = f"|echo {number} {at} >> ran; "
        deadly = chance.choice(list(DEADLY.values()))
        code = chance.choice([0, 0, 0, 0, 99, chance.randint(0, 255), *HARD])
        yield chance.choice(
            [
                chance.choice(files) + chance.choice(["", "", " \t"]),
                f"{mark}exit {code}",
                f"{mark}exit 0",
                f"{mark}kill -{deadly} $$; sleep 60" if at % 2 else f"{mark}exit {code}",
                f"&to{at}@y.example",
                f"to{at}@y.example  ",
                chance.choice(["# comment", "", "+other", "  " if at else "#"]),
                "+list" if chance.random() < 0.3 else "# x",
            ]
        )


def random_case(chance: random.Random, number: int) -> Case:
    lines = list(random_lines(chance, number))
    if not lines[0] and chance.random() < 0.8:
        lines[0] = "# first"
    text = "\n".join(lines) + chance.choice(["\n", "\n", ""])
    form = chance.random()
    loops = 0.95 < form < 0.97
    if form < 0.03:
        return Case(number, None, 0o644, loops)
    if form < 0.06:
        return Case(number, "", chance.choice([0o644, 0o744]), loops)
    return Case(number, text, chance.choice([0o644] * 8 + [0o600, 0o664, 0o744, 0o646]), loops)


class Household:
    """joe's home, and what is found in it."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.joe = queue.user("joe")
        for part in ("tmp", "new", "cur"):
            (self.joe / "box" / part).mkdir(parents=True)
        own(self.joe)

    def deliver(self, cases: list[Case]) -> list[Outcome]:
        """All at once; what an earlier batch left is removed first."""
        for path in (*self.joe.glob("box/new/*"), self.joe / "mbox", self.joe / "Mailbox", self.joe / "ran"):
            path.unlink(missing_ok=True)
        self.queue.injected.clear()
        for case in cases:
            path = self.joe / f".qmail-{case.number}"
            path.unlink(missing_ok=True)
            if case.text is not None:
                path.write_text(case.text)
                path.chmod(case.mode)
        own(self.joe)
        loops = b"".join(b"Delivered-To: joe-%d@x.org\r\n" % case.number for case in cases if case.loops)
        recipients = [b"joe-%d@x.org" % case.number for case in cases]
        return self.queue.deliver(*recipients, content=loops + CONTENT)

    def found(self, number: int) -> tuple[int, int, int, list[int], list[list[bytes]]]:
        """What is there of a delivery: in box, mbox and Mailbox, programs that ran, forwards."""
        mark = f"Return-Path: <a@b.org>\nDelivered-To: joe-{number}@x.org\n"
        counts = Counter(mark in path.read_text() for path in (self.joe / "box" / "new").iterdir())
        mboxes = [self._text(name).count(mark) for name in ("mbox", "Mailbox")]
        ran = [line.split() for line in self._text("ran").splitlines()]
        forwards = [
            [recipient.address for recipient in frame.envelope.recipients]
            for frame in self.queue.injected
            if frame.content.split(b"\r\n")[1] == b"Delivered-To: joe-%d@x.org" % number
        ]
        return counts[True], mboxes[0], mboxes[1], [int(at) for who, at in ran if int(who) == number], forwards

    def _text(self, name: str) -> str:
        path = self.joe / name
        return path.read_text() if path.exists() else ""


@contextmanager
def household(place: Path, programseconds: int = 3600) -> Iterator[Household]:
    """A running local role, and a file system without room in joe's home."""
    queue = Queue(place)
    home = Household(queue)
    full = home.joe / "full"
    full.mkdir()
    if ROOT:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], check=True)
        for part in ("tmp", "new", "cur"):
            (full / "box" / part).mkdir(parents=True)
        (full / "mbox").write_bytes(b"")
        with open(full / "rest", "wb", buffering=0) as rest:
            while rest.write(b"x" * 4096) == 4096 and os.statvfs(full).f_bavail:
                pass
    queue.start(programseconds)
    try:
        yield home
    finally:
        queue.stop()
        if ROOT:
            subprocess.run(["umount", "-l", full], check=True)


def check(home: Household, case: Case, outcome: Outcome) -> None:
    expected = case.expected()
    shown = f"{oct(case.mode)} {case.text!r}: {outcome}"
    assert (outcome.verdict, outcome.status) == (expected.verdict, expected.status), shown
    forwards = [expected.forwards] if expected.forwards else []
    assert home.found(case.number) == (
        expected.maildir,
        expected.mbox,
        expected.default,
        expected.programs,
        forwards,
    ), shown


def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--seed")
    chosen = random.SystemRandom().randrange(1 << 32) if given is None else given
    print(f"--seed {chosen}")
    return chosen


@pytest.mark.slow
def test_every_delivery_ends_as_documented(request: pytest.FixtureRequest, place: Path) -> None:
    chance = random.Random(seed(request))
    total = request.config.getoption("--deliveries")
    verdicts: Counter[int] = Counter()
    with household(place) as home:
        for first in range(0, total, BATCH):
            cases = [random_case(chance, number) for number in range(min(BATCH, total - first))]
            outcomes = home.deliver(cases)
            for case, outcome in zip(cases, outcomes, strict=True):
                check(home, case, outcome)
                verdicts[outcome.verdict] += 1
            assert list((home.joe / "box" / "tmp").iterdir()) == []
            if ROOT:
                assert list((home.joe / "full" / "box" / "new").iterdir()) == []
                assert (home.joe / "full" / "mbox").read_bytes() == b""
    assert sum(verdicts.values()) == total
    assert len(verdicts) == 3


@pytest.mark.slow
def test_programs_that_hang(request: pytest.FixtureRequest, place: Path) -> None:
    """They and what they started are ended; nobody else's delivery is held up by them."""
    with household(place, programseconds=5) as home:
        hang = "to@y\n|echo {} 0 >> ran; sleep 1000\n./box/\n"
        cases = [Case(number, hang.format(number), 0o644, False) for number in range(5)]
        cases.append(Case(5, "./mbox\n", 0o644, False))
        outcomes = home.deliver(cases)
        late = Outcome(Verdict.DEFERRED, "4.3.0", "A program took too long and was ended. (#4.3.0)\n")
        assert outcomes == [late] * 5 + [Outcome(Verdict.DELIVERED, "2.0.0", "did 1+0+0\n")]
        assert [home.found(number) for number in range(5)] == [(0, 0, 0, [0], [])] * 5


@pytest.mark.slow
def test_killed_in_the_middle(request: pytest.FixtureRequest, place: Path) -> None:
    """A program kills its delivery's process: what was in hand is deferred, and what is reported as done is there."""
    chance = random.Random(seed(request))
    rounds = max(4, request.config.getoption("--deliveries") // BATCH // 5)
    deferred = 0
    with household(place) as home:
        for _ in range(rounds):
            cases = [random_case(chance, number) for number in range(BATCH)]
            at = chance.randrange(BATCH)
            cases[at] = Case(at, "to@y\n./box/\n|kill -KILL $PPID; sleep 60\n", 0o644, False)
            outcomes = home.deliver(cases)
            assert outcomes[at].verdict == Verdict.DEFERRED
            for case, outcome in zip(cases, outcomes, strict=True):
                if "crashed" not in outcome.text:
                    check(home, case, outcome)
                    continue
                deferred += 1
                expected, found = case.expected(), home.found(case.number)
                most = (expected.maildir, expected.mbox, expected.default)
                if case.number != at:
                    assert all(count <= limit for count, limit in zip(found[:3], most, strict=True))
                    assert found[3] == expected.programs[: len(found[3])]
                    assert found[4] in ([], [expected.forwards])
    assert deferred >= rounds

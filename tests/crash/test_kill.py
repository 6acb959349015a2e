"""kill -9 under load: whatever dies, no acknowledged message is lost, torn or stuck, and none appears from nowhere.

``--kills N`` sets how often, ``--seed S`` repeats a run's choices (its seed is printed when it fails).
"""

from __future__ import annotations

import json
import random
import time

import pytest
from tests.peers.accounting import Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.processes import kill, wait_until
from tests.peers.sinks import Sink

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RECIPIENTS = [*["somebody@sink.example"] * 6, "reject@sink.example", "inbox@ekiden.example"]
LARGE = 400_000
"""Octets: beyond ``inlinebytes``, so that the content becomes a file."""

MOST_DOUBLED = 60
"""Deliveries that one kill can interrupt between the next hop's 250 and our own commit: the concurrency limits."""


class Nemesis:
    """Kills, seeded: mostly one process of a role taken at random, now and then the supervisor, or everything."""

    def __init__(self, ekiden: Ekiden, seed: int) -> None:
        self._ekiden = ekiden
        self._random = random.Random(seed)
        self.history: list[str] = []

    def strike(self) -> None:
        """Wait a moment, kill something, and see to it that ekiden runs again."""
        time.sleep(self._random.uniform(0.02, 0.5))
        kind = self._random.choices(["role", "supervisor", "all"], [8, 1, 1])[0]
        if kind == "role":
            self._kill_role()
        else:
            self._kill_and_start(kind)

    def _kill_role(self) -> None:
        # What died often is started later and later; there may be nobody to kill for a while.
        wait_until(lambda: bool(self._ekiden.roles()), 10, "some role is there")
        processes = self._ekiden.roles()
        role = self._random.choice(sorted(set(processes.values())))
        victim = self._random.choice(sorted(pid for pid, name in processes.items() if name == role))
        self.history.append(role)
        kill(victim)

    def _kill_and_start(self, kind: str) -> None:
        self.history.append(kind)
        if kind == "all":
            self._ekiden.kill_all()
        else:
            kill(self._ekiden.supervisor())
        # Roles that outlive their supervisor for a moment still hold the listeners.
        wait_until(self._ekiden.starts_again, 10, "ekiden starts again", step=0.1)


def seed_of(config: pytest.Config) -> int:
    """The seed asked for, or a new one."""
    seed: int | None = config.getoption("--seed")
    return random.SystemRandom().randrange(1_000_000) if seed is None else seed


def test_kills_lose_nothing(home: Ekiden, sink: Sink, pytestconfig: pytest.Config) -> None:
    seed, kills = seed_of(pytestconfig), pytestconfig.getoption("--kills")
    sink.stop()
    sink.start("--reply", "RCPT TO:<REJECT@=550 5.1.1 nobody here")
    maildir = home.make_inbox("inbox")
    home.routes(f":{sink.route}")
    home.start()
    ledger = Ledger()
    nemesis = Nemesis(home, seed)
    client = LoadClient(
        home.port, ledger, RECIPIENTS, sessions=8, size=lambda number: LARGE if number % 50 == 49 else 2000
    )
    with client.running():
        for _ in range(kills):
            nemesis.strike()
    stuck = drain(home, 90)
    books = account(ledger, sink, maildir)
    story = f"seed {seed}, {kills} kills, {len(ledger.acknowledged)} acknowledged: {books}, {stuck} stuck"
    print(story)
    assert ledger.acknowledged, story
    assert books and stuck == 0, f"{story}\nkilled: {', '.join(nemesis.history)}\n{home.log()[-3000:]}"
    assert books.duplicates <= MOST_DOUBLED * kills, story
    audited = json.loads(home.command("audit", "--json", check=False).stdout)
    assert audited["problems"] == [], story
    assert audited["ended"] >= len(ledger.acknowledged)


@pytest.mark.parametrize("role", ["smtpd", "queue", "remote", "local", "log", "supervisor", "all"])
def test_each_comes_back(home: Ekiden, sink: Sink, role: str) -> None:
    """After the death of any process mail flows again by itself; after the supervisor's, by starting again."""
    maildir = home.make_inbox("inbox")
    home.routes(f":{sink.route}")
    home.start()
    for victim, name in home.roles().items():
        if name == role:
            kill(victim)
    if role == "supervisor":
        kill(home.supervisor())
    elif role == "all":
        home.kill_all()
    if role in {"supervisor", "all"}:
        wait_until(home.starts_again, 10, "ekiden starts again", step=0.1)
    ledger = Ledger()
    LoadClient(home.port, ledger, ["somebody@sink.example", "inbox@ekiden.example"], sessions=2, limit=60).run()
    # Sessions that meet the gap are refused or broken, which is no fault.
    assert len(ledger.acknowledged) >= 20
    assert drain(home, 20) == 0
    books = account(ledger, sink, maildir)
    assert books and books.duplicates == 0, books

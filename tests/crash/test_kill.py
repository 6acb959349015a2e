"""kill -9 under load: whatever dies, no acknowledged message is lost, torn or stuck, and none appears from nowhere.

``--kills N`` sets how often, ``--seed S`` repeats a run's choices (its seed is printed when it fails).
"""

from __future__ import annotations

import json

import pytest
from tests.crash.nemesis import Nemesis, seed_of
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
        wait_until(home.starts_again, "ekiden starts again", step=0.1)
    ledger = Ledger()
    client = LoadClient(home.port, ledger, ["somebody@sink.example", "inbox@ekiden.example"], sessions=2)
    # Sessions that meet the gap are refused or broken, which is no fault.
    client.send_until_acknowledged(20)
    assert drain(home, 60) == 0
    books = account(ledger, sink, maildir)
    assert books and books.duplicates == 0, books

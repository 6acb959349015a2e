"""Mixed traffic for a set time while everything goes wrong; then the books must balance and nothing have grown.

``--soak-seconds N`` sets how long, ``--seed S`` repeats a run's choices (its seed is printed).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable

import pytest
from tests.crash.nemesis import seed_of
from tests.crash.soak import Footprint, Look, Site, Troubles
from tests.peers.deliveries import drain
from tests.peers.ekiden import Ekiden
from tests.peers.sinks import Sink

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]

SETTLING, GROWTH = 8 * 1024 * 1024, 3 * 1024 * 1024
"""Octets more that a process may hold at rest than at the look before: while it becomes warm, and then."""
SPARE = 4
"""Descriptors more that it may have open: connections between roles."""


def test_a_soak(small: Ekiden, make_sink: Callable[..., Sink], pytestconfig: pytest.Config) -> None:
    seed, seconds = seed_of(pytestconfig), pytestconfig.getoption("--soak-seconds")
    print(f"pytest -s tests/crash/test_soak.py --soak-seconds {seconds:g} --seed {seed}")
    sink, flaky = make_sink(), make_sink()
    flaky.record = sink.record
    flaky.stop()
    flaky.start()
    site = Site(small, sink, flaky, seed)
    troubles = Troubles(site, seed)
    small.start()
    stuck, looks = 0, []
    # What is killed all the time cannot grow: then the queue lives, then everything does and becomes warm.
    for number, (share, kills, reloads) in enumerate([(0.6, 1, 1), (0.1, 0, 1), (0.1, 0, 0), (0.2, 0, 0)]):
        with site.traffic(first=1_000_000 * number):
            troubles.go_on(seconds * share, bool(kills), bool(reloads))
        stuck += drain(small, 120)
        looks.append(site.look())
    books, untold = site.close_books()
    happened = ", ".join(f"{count} {name}" for name, count in sorted(Counter(troubles.history).items()))
    story = f"{seconds:g} s, seed {seed}, {len(site.ledger.acknowledged)} acknowledged: {books}, {stuck} stuck"
    story += f"; {happened}, {site.mover.kills} kill maildir2mbox; {site.reader.sessions} POP3 sessions"
    print(f"{story}\n{_table(looks)}")
    for identity in sorted(books.lost | books.torn)[:5]:
        print(small.command("trace", "--message-id", identity, check=False).stdout)
    assert site.ledger.acknowledged and books and stuck == 0, f"{story}\n{small.log()[-3000:]}"
    assert not untold, f"{story}: the list's owner was not told of {sorted(untold)[:5]}"
    assert "Traceback" not in small.log()
    assert json.loads(small.command("audit", "--json", check=False).stdout)["problems"] == [], story
    assert list((small.home / "queue" / "spool").iterdir()) == []
    assert looks[2].processes.keys() == looks[3].processes.keys(), f"somebody died: {_table(looks)}\n{_alerts(small)}"
    _require_flat(looks[0], looks[1], SETTLING)
    _require_flat(looks[2], looks[3], GROWTH)


# A process of pytest's that has more than two tests before it is given no others: those after the soak keep it free
# of tests that would wait for the soak's end.


@pytest.mark.parametrize(("role", "memory", "descriptors"), [("smtpd", 101, 10), ("log", 50, 11), ("queue", 151, 10)])
def test_growth_is_seen(role: str, memory: int, descriptors: int) -> None:
    before = Look({1: Footprint(role, 50, 10 - SPARE)}, database=7)
    with pytest.raises(AssertionError, match=role):
        _require_flat(before, Look({1: Footprint(role, memory, descriptors)}, database=57), 50)


@pytest.mark.parametrize(("role", "memory"), [("smtpd", 100), ("queue", 150)])
def test_what_may_grow_may(role: str, memory: int) -> None:
    before = Look({1: Footprint(role, 50, 10), 2: Footprint("log", 50, 10)}, database=7)
    _require_flat(before, Look({1: Footprint(role, memory, 10), 3: Footprint("log", 500, 10)}, database=57), 50)


def _require_flat(before: Look, after: Look, most: int) -> None:
    """That no process which was there at both looks has grown; the queue may by what its database has."""
    for pid, held in after.processes.items():
        if (was := before.processes.get(pid)) is not None:
            pages = max(0, after.database - before.database) if held.role == "queue" else 0
            assert held.memory <= was.memory + most + pages, f"{held.role} grew: {was}, {held}"
            assert held.descriptors <= was.descriptors + SPARE, f"{held.role} keeps descriptors: {was}, {held}"


def _alerts(small: Ekiden) -> str:
    """The last that the log says of processes."""
    return "\n".join([line for line in small.log().splitlines() if " process " in line or "alert" in line][-20:])


def _table(looks: list[Look]) -> str:
    """What each process that was there at the end held at each look, in KiB and descriptors."""
    lines = [f"database: {'; '.join(f'{look.database >> 10} KiB' for look in looks)}"]
    for pid, last in sorted(looks[-1].processes.items(), key=lambda each: each[1].role):
        held = [look.processes.get(pid) for look in looks]
        told = [f"{each.memory >> 10} KiB, {each.descriptors}" if each else "-" for each in held]
        lines.append(f"{last.role}: {'; '.join(told)}")
    return "\n".join(lines)

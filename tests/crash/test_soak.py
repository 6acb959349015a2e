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
from tests.crash.soak import Site, Troubles
from tests.peers.deliveries import drain
from tests.peers.ekiden import Ekiden
from tests.peers.sinks import Sink

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]

GROWTH, ALLOWANCE = 1.3, 40 * 1024 * 1024
"""How much more a role may hold at rest than before, as a factor and in octets: the store keeps 32 MiB of pages."""
SPARE = 8
"""Descriptors more that one of its processes may have open: connections between roles."""


def test_a_soak(small: Ekiden, make_sink: Callable[..., Sink], pytestconfig: pytest.Config) -> None:
    seed, seconds = seed_of(pytestconfig), pytestconfig.getoption("--soak-seconds")
    sink, flaky = make_sink(), make_sink()
    flaky.record = sink.record
    flaky.stop()
    flaky.start()
    site = Site(small, sink, flaky, seed)
    troubles = Troubles(site, seed)
    small.start()
    with site.traffic(first=0):
        troubles.go_on(seconds * 0.6, kills=True)
    stuck = drain(small, 120)
    # What is killed all the time cannot grow: now it lives, first to become warm.
    with site.traffic(first=1_000_000):
        troubles.go_on(seconds * 0.15, kills=False)
    stuck += drain(small, 120)
    before = site.footprint()
    with site.traffic(first=2_000_000):
        troubles.go_on(seconds * 0.25, kills=False)
    stuck += drain(small, 120)
    after = site.footprint()
    books, untold = site.close_books()
    happened = ", ".join(f"{count} {name}" for name, count in sorted(Counter(troubles.history).items()))
    story = f"seed {seed}, {len(site.ledger.acknowledged)} acknowledged: {books}, {stuck} stuck; {happened}"
    story += f", {site.mover.kills} kill maildir2mbox; {site.reader.sessions} POP3 sessions"
    print(f"{story}\n{_table(before, after)}")
    assert site.ledger.acknowledged and books and stuck == 0, f"{story}\n{small.log()[-3000:]}"
    assert not untold, f"{story}: the list's owner was not told of {sorted(untold)[:5]}"
    assert "Traceback" not in small.log()
    assert json.loads(small.command("audit", "--json", check=False).stdout)["problems"] == [], story
    assert list((small.home / "queue" / "spool").iterdir()) == []
    for role, (memory, descriptors) in after.items():
        assert memory <= before[role][0] * GROWTH + ALLOWANCE, f"{role} grew: {_table(before, after)}"
        assert descriptors <= before[role][1] + SPARE, f"{role} keeps descriptors: {_table(before, after)}"


def _table(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> str:
    return "\n".join(
        f"{role}: {before[role][0] >> 10} then {memory >> 10} KiB, {before[role][1]} then {descriptors} descriptors"
        for role, (memory, descriptors) in sorted(after.items())
    )

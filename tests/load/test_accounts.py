"""Load without faults: every message arrives exactly once, and a backlog costs no memory to speak of."""

from __future__ import annotations

import pytest
from bench.measure import pss_bytes, settle
from tests.peers.accounting import Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

MEBIBYTE = 1024**2


@pytest.mark.parametrize("reuse", [1, 50], ids=["one-a-session", "reused"])
def test_exactly_once(relay: Ekiden, sink: Sink, reuse: int) -> None:
    ledger = Ledger()
    recipients = [f"u{number}@d{number % 7}.example" for number in range(21)]
    LoadClient(relay.port, ledger, recipients, sessions=20, reuse=reuse, limit=2000).run()
    assert (ledger.broken, ledger.refused, len(ledger.acknowledged)) == (0, 0, 2000), ledger.troubles
    assert drain(relay, 60) == 0
    books = account(ledger, sink)
    assert books and books.duplicates == 0, books


def test_large_contents_arrive_whole(relay: Ekiden, sink: Sink) -> None:
    ledger = Ledger()
    LoadClient(relay.port, ledger, sessions=4, limit=24, size=lambda number: 10_000 << (number % 9)).run()
    assert len(ledger.acknowledged) == 24, ledger.troubles
    assert drain(relay, 60) == 0
    books = account(ledger, sink)
    assert books and books.duplicates == 0, books


def test_backlog_costs_disk_not_memory(home: Ekiden, sink: Sink) -> None:
    """Once the caches have what they may have, twice the backlog takes no more memory."""
    sink.stop()
    home.control("activebytes", str(4 * MEBIBYTE))
    home.routes(f":{sink.route}")
    home.start()
    before = memory_with_more(home, 5000)
    grown = memory_with_more(home, 5000) - before
    assert grown < 5 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB more for 5,000 more deferred messages, 40 MB on disk"


def memory_with_more(ekiden: Ekiden, count: int) -> int:
    """Octets (PSS) of all processes at rest, after this many more messages of 8 KB."""
    ledger = Ledger()
    LoadClient(ekiden.port, ledger, sessions=10, reuse=100, limit=count, size=lambda _number: 8000).run()
    assert len(ledger.acknowledged) == count, ledger.troubles
    settle(ekiden.pids)
    return pss_bytes(ekiden.pids())

"""A queue without room: refused with 452, nothing lost, and well again without a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.peers.accounting import Ledger, balance
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.processes import run, wait_until
from tests.peers.sinks import Sink

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]

SIZE = 12
"""MiB of the queue's file system."""


@pytest.fixture
def cramped(home: Ekiden) -> Iterator[Ekiden]:
    """A configured ekiden whose queue/ is a file system of its own, and small; not started."""
    queue = home.home / "queue"
    status = queue.stat()
    where = f"size={SIZE}m,mode={status.st_mode & 0o7777:o},uid={status.st_uid},gid={status.st_gid}"
    mounted = run(["mount", "-t", "tmpfs", "-o", where, "tmpfs", queue], check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stdout.strip()}")
    try:
        yield home
    finally:
        home.stop()
        run(["umount", queue])


def fill(ekiden: Ekiden, ledger: Ledger, numbers: range, size: int) -> list[str]:
    """Send messages of this size; the replies other than 250, without those to a connection that was closed."""
    replies = []
    for number in numbers:
        try:
            with dialogue(ekiden.port) as talk:
                identity, content = ledger.compose(number, size)
                reply = talk.message(content, "sender@load.example", "somebody@sink.example")
        except (EOFError, OSError):
            continue
        if reply.startswith("250"):
            ledger.acknowledged.add(identity)
        else:
            replies.append(reply)
    return replies


@pytest.mark.parametrize("size", [50_000, 2_000_000], ids=["inline", "spooled"])
def test_full_disk_defers_and_recovers(cramped: Ekiden, sink: Sink, size: int) -> None:
    sink.stop()
    cramped.control("concurrencyremote", "5")
    cramped.routes(f":{sink.route}")
    cramped.start()
    ledger = Ledger()
    refused = fill(cramped, ledger, range(3 * SIZE * 1_000_000 // size), size)
    assert refused, "the disk never became full"
    assert {reply[:3] for reply in refused} <= {"452", "451"}
    assert any(reply.startswith("452 4.3.1") for reply in refused), refused[:3]
    assert ledger.acknowledged, "nothing was accepted at all"

    sink.start()
    cramped.command("queue", "flush")
    wait_until(lambda: cramped.queue() == [], 60, "the queue drains although its disk was full", step=0.3)
    account = balance(ledger, [(message.id, message.hash) for message in sink.received()])
    # Content beyond what the sink keeps is compared by hash all the same.
    assert account, account

    afterwards = Ledger()
    assert fill(cramped, afterwards, range(1_000_000, 1_000_003), size) == []
    wait_until(lambda: cramped.queue() == [], 30, "new mail passes", step=0.2)

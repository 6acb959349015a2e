"""A queue without room: refused with 452, nothing lost, and well again without a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.peers.accounting import Ledger, balance
from tests.peers.deliveries import drain
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
        run(["umount", "-l", queue])


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


def check_that_it_is_well(ekiden: Ekiden, size: int) -> None:
    """Mail passes as if nothing had happened."""
    afterwards = Ledger()
    assert fill(ekiden, afterwards, range(1_000_000, 1_000_003), size) == []
    wait_until(lambda: ekiden.queue() == [], "new mail passes", step=0.2)


@pytest.mark.parametrize("size", [2_000, 50_000, 2_000_000])
def test_disk_filled_by_others(cramped: Ekiden, sink: Sink, size: int) -> None:
    """Somebody else's files leave no room, then make room again."""
    cramped.routes(f":{sink.route}")
    cramped.start()
    ledger = Ledger()
    filler = cramped.home / "queue" / "somebody-elses-file"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    refused = fill(cramped, ledger, range(4 * SIZE), size)
    assert refused, "the disk never became full"
    assert {reply[:9] for reply in refused} == {"452 4.3.1"}
    filler.unlink()
    check_that_it_is_well(cramped, size)
    books = balance(ledger, [(message.id, message.hash) for message in sink.received() if message.id in ledger.sent])
    assert books, books


@pytest.mark.parametrize("size", [50_000, 2_000_000], ids=["inline", "spooled"])
def test_disk_filled_by_the_queue(cramped: Ekiden, sink: Sink, size: int) -> None:
    """The next hop is away until the queue has filled its disk: what is in it must find its way out again."""
    sink.stop()
    cramped.routes(f":{sink.route}")
    cramped.start()
    ledger = Ledger()
    refused = fill(cramped, ledger, range(3 * SIZE * 1_000_000 // size), size)
    assert refused, "the disk never became full"
    assert {reply[:9] for reply in refused} == {"452 4.3.1"}
    assert ledger.acknowledged, "nothing was accepted at all"
    sink.start()
    assert drain(cramped, 60) == 0, "the queue does not drain, for want of room to write down what is delivered"
    books = balance(ledger, [(message.id, message.hash) for message in sink.received()])
    assert books, books
    check_that_it_is_well(cramped, size)

"""What became of a ledger's messages: read from the sink, from a Maildir and from bounces, and set against it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from mailbox import mbox
from pathlib import Path

from tests.peers.accounting import Account, Ledger, balance
from tests.peers.ekiden import Ekiden
from tests.peers.sink import describe
from tests.peers.sinks import Sink

_NAMED = re.compile(rb"^Message-ID: *<([^>]+)>", re.MULTILINE | re.IGNORECASE)


def drain(ekiden: Ekiden, seconds: float) -> int:
    """Have everything tried until the queue is empty; how many messages are stuck after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        flushed = ekiden.command("queue", "flush", check=False)
        left = ekiden.command("queue", "list", "--limit", "0", "--json", check=False)
        count = left.stdout.count('"id"')
        if flushed.returncode == left.returncode == 0 and count == 0:
            return 0
        if time.monotonic() > deadline:
            return count or -1
        time.sleep(0.5)


def account(ledger: Ledger, sink: Sink, *mailboxes: Path, read: Iterable[tuple[str, str]] = ()) -> Account:
    """Balance the ledger with the sink and mailboxes, Maildirs or mbox files; what is from ``<>`` is a bounce.

    ``read``: identity and hash of what somebody has taken out of other mailboxes.
    """
    arrivals = list(read)
    bounced: list[str] = []
    for message in sink.received():
        if message.sender.startswith("<>"):
            named = _NAMED.findall(message.content.replace(b"\r\n", b"\n"))
            bounced += [identity.decode() for identity in named if identity.decode() in ledger.sent]
        else:
            arrivals.append((message.id, message.hash))
    for mailbox in mailboxes:
        for content in _contents(mailbox):
            entry = describe(content)
            arrivals.append((str(entry["id"]), str(entry["hash"])))
    return balance(ledger, arrivals, bounced)


def named_by_notices(mailbox: Path) -> set[str]:
    """The messages that bounces in a Maildir are about."""
    return {name.decode() for content in _contents(mailbox) for name in _NAMED.findall(content)}


def _contents(mailbox: Path) -> Iterator[bytes]:
    if (mailbox / "new").is_dir():
        yield from (path.read_bytes() for path in (mailbox / "new").iterdir())
    elif mailbox.exists():
        yield from (message.as_bytes() for message in mbox(mailbox))

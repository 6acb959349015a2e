"""The audit: what the queue holds against what the ledger says, a bounded number of messages at a time.

Every recipient that was accepted is either still to be delivered or came to one end. A message is found at fault if
it has a recipient with no end or with two, ends without a beginning, a failure that nobody was told of, or a content
that is not what it was. What is found is said in sentences for people; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from zlib import crc32

import msgspec

from ekiden.queue import ledger
from ekiden.queue.ledger import Entry
from ekiden.queue.store import MessageRow, Store

BATCH = 200
LAST = (1 << 62) - 1
"""Above every id."""

Stored = tuple[int, int, float, bytes]


class SpoolFile(msgspec.Struct, frozen=True, array_like=True):
    """A content for the caller to look at, because it may be large. ``checksum``: CRC-32, 0 if unknown."""

    message: int
    name: str
    size: int
    checksum: int


class Audited(msgspec.Struct, array_like=True):
    """What was looked at: messages in the queue, messages that ended, recipients of both; and what is wrong.

    ``next``: the id to go on after, 0 if that was all.
    """

    queued: int = 0
    ended: int = 0
    recipients: int = 0
    problems: list[tuple[int, str]] = []
    files: list[SpoolFile] = []
    next: int = 0
    known: list[int] = []
    """The ids of all of them."""
    oldest: int = 0
    """The lowest id of a message that ended, 0 if there is none: ends are forgotten in the order of ids."""
    since: float = 0.0
    """When the first of those that ended did: before, there may have been no ledger. Seconds of the epoch."""


def audit(store: Store, after: int, limit: int = BATCH) -> Audited:
    """Look at about ``limit`` messages with ids above ``after``."""
    messages = store.messages(after, limit)
    until = messages[-1].id if len(messages) == limit else LAST
    rows = store.ledger(after, until, limit)
    if len(rows) >= limit:
        until = rows[-1][0]
    found = Audited(next=0 if until == LAST else until)
    queued = {message.id: message for message in messages if message.id <= until}
    ended = {number: list(group) for number, group in groupby(rows, key=itemgetter(0))}
    found.known = sorted(queued.keys() | ended.keys())
    gone = ended.keys() - queued.keys()
    found.oldest = min(gone, default=0)
    found.since = min((ended[number][-1][2] for number in gone), default=0.0)
    for number in found.known:
        entries = [ledger.decode(row[3]) for row in ended.get(number, [])]
        message = queued.get(number)
        if message is None:
            problems = _look_at_ended(found, entries, ended[number])
        else:
            problems = _look_at_queued(store, found, message, entries)
        found.problems.extend((number, problem) for problem in problems)
    return found


def _look_at_ended(found: Audited, entries: list[Entry], rows: list[Stored]) -> Iterator[str]:
    """What is wrong with a message that has left the queue."""
    found.ended += 1
    beginnings = [entry.beginning for entry in entries if entry.beginning is not None]
    if not beginnings:
        yield "has ends but no beginning, and is not in the queue"
        return
    if len(beginnings) > 1:
        yield "left the queue twice"
    found.recipients += beginnings[0].recipients
    yield from _count(beginnings[0].recipients, _ends(entries), 0)
    yield from _silence(entries, rows)


def _look_at_queued(store: Store, found: Audited, message: MessageRow, entries: list[Entry]) -> Iterator[str]:
    """What is wrong with a message in the queue."""
    found.queued += 1
    found.recipients += message.meta.recipients
    if any(entry.beginning is not None for entry in entries):
        yield "is in the queue although all its recipients ended"
    parts = store.parts(message.id)
    for part in parts:
        if store.destination_key(part.destination) is None:
            yield f"part {part.part} is for destination {part.destination}, which is not known"
    for number in store.unscheduled(message.id):
        yield f"part {number} is missing from an index, and would never be tried"
    yield from _count(message.meta.recipients, _ends(entries), sum(len(part.recipients) for part in parts))
    if message.spool:
        found.files.append(SpoolFile(message.id, message.spool, message.size, message.meta.checksum))
        return
    try:
        content = store.content(message.id) or b""
    except OSError as error:
        yield f"has a content that cannot be read: {error.strerror}"
        return
    yield from check_content(message.size, message.meta.checksum, len(content), crc32(content))


def check_content(size: int, checksum: int, real_size: int, real_checksum: int) -> Iterator[str]:
    """What is wrong with a content of which size and checksum were noted when it came in."""
    if size != real_size:
        yield f"has {real_size} octets of content and not {size}"
    elif checksum and checksum != real_checksum:
        yield f"has another content than came in: CRC-32 {real_checksum:08x} and not {checksum:08x}"


def _ends(entries: Iterable[Entry]) -> int:
    return sum(len(entry.ends) for entry in entries)


def _count(accepted: int, ended: int, waiting: int) -> Iterator[str]:
    # A message from before there was a ledger does not say how many it had.
    if not accepted or ended + waiting == accepted:
        return
    said = f"had {accepted} recipients, of whom {ended} ended and {waiting} wait"
    yield f"{said}: {'no end' if ended + waiting < accepted else 'more than one end'} for some"


def _silence(entries: list[Entry], rows: list[Stored]) -> Iterator[str]:
    failed = any(end.end == "failed" and end.told for entry in entries for end in entry.ends)
    if failed and not any(row[1] == ledger.NOTICE for row in rows):
        yield "failed for a recipient, and neither was the sender told nor a triple bounce noted"

"""The audit: what the queue holds against what the ledger says, a bounded number of messages at a time.

Every recipient that was accepted is either still to be delivered or came to one end. A message is found at fault if
it has a recipient with no end or with two, ends without a beginning, a failure that nobody was told of, or an
envelope or content that is not what it was. What is found is said in sentences for people; nothing is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from zlib import crc32

import msgspec

from ekiden.queue import ledger
from ekiden.queue.inspect import text
from ekiden.queue.ledger import Entry
from ekiden.queue.store import (
    NO_END,
    UNDECODABLE,
    MessageRow,
    PartRow,
    Reach,
    RowDamaged,
    Store,
    StoreDamaged,
)

BATCH = 200
LAST = NO_END

_HIGHEST = (1 << 63) - 1
"""The highest number that SQLite knows."""

Stored = tuple[int, int, float, bytes]

_SHOWN = 10
"""Addresses that one sentence names at most."""
_NO_BEGINNING = "has ends but no beginning, and is not in the queue"
_DAMAGED_END = "has an entry in the ledger that is not what was written"


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
    reach: Reach = Reach()
    """Which messages must be known."""


def audit(store: Store, after: int, limit: int = BATCH) -> Audited:
    """Look at about ``limit`` messages with ids above ``after``."""
    faults: list[RowDamaged] = []
    messages = store.messages(after, limit, faults)
    damaged = {fault.message: fault for fault in faults}
    ids = [*damaged, *(message.id for message in messages)]
    until = max(ids) if len(ids) == limit else LAST
    rows = store.ledger(after, until, limit)
    if len(rows) >= limit:
        until = rows[-1][0]
    # Damage may have made a number of any size of theirs.
    homeless = store.homeless(after, until if until < LAST else _HIGHEST, limit)
    if len(homeless) >= limit:
        until = homeless[-1]
    found = Audited(next=0 if until == LAST else until)
    queued = {message.id: message for message in messages if message.id <= until}
    ended = {number: list(group) for number, group in groupby(rows, key=itemgetter(0)) if number <= until}
    unread = {number for number in damaged if number <= until}
    found.known = sorted({*queued, *unread, *ended, *homeless})
    found.reach = store.reach()
    for number in found.known:
        rows = ended.get(number, [])
        message = queued.get(number)
        if message is not None:
            problems = _look_at_queued(store, found, message, rows)
        elif number in unread:
            problems = _look_at_unread(found, damaged[number])
        elif number in homeless:
            problems = _look_at_homeless(store, found, number, rows)
        else:
            problems = _look_at_ended(found, rows)
        found.problems.extend((number, problem) for problem in problems)
        if number > found.reach.given:
            found.problems.append((number, f"has a number that was not given: the last was {found.reach.given}"))
    return found


def _look_at_unread(found: Audited, fault: RowDamaged) -> Iterator[str]:
    """What is wrong with a message in the queue of which nothing can be relied on."""
    found.queued += 1
    is_envelope = fault.fault.startswith("its envelope")
    yield "has an envelope that is not what came in" if is_envelope else f"is damaged: {fault.fault}"


def _look_at_homeless(store: Store, found: Audited, message: int, rows: list[Stored]) -> Iterator[str]:
    """What is wrong with recipients whose message is gone."""
    if rows:
        yield _NO_BEGINNING
    damaged: list[RowDamaged] = []
    parts = store.parts(message, damaged)
    for part in parts:
        whom = _named(one.address for one in part.recipients)
        yield f"part {part.part} waits for {whom}, and sender and content are gone"
    for fault in damaged:
        yield f"sender and content are gone, and {fault.fault}"


def _look_at_ended(found: Audited, rows: list[Stored]) -> Iterator[str]:
    """What is wrong with a message that has left the queue."""
    found.ended += 1
    entries, damaged = _entries(rows)
    beginnings = [entry.beginning for entry in entries if entry.beginning is not None]
    if damaged:
        found.recipients += sum(beginning.recipients for beginning in beginnings)
        yield _DAMAGED_END
        return
    if not beginnings:
        yield _NO_BEGINNING
        return
    if len(beginnings) > 1:
        yield "left the queue twice"
    began = beginnings[0]
    found.recipients += began.recipients
    yield from _compare(began.recipients, began.whom, _ended(entries), [])
    yield from _silence(entries, rows)


def _look_at_queued(store: Store, found: Audited, message: MessageRow, rows: list[Stored]) -> Iterator[str]:
    """What is wrong with a message in the queue."""
    found.queued += 1
    meta = message.meta
    found.recipients += meta.recipients
    entries, damaged = _entries(rows)
    if damaged:
        yield _DAMAGED_END
    if any(entry.beginning is not None for entry in entries):
        yield "is in the queue although all its recipients ended"
    try:
        parts = store.parts(message.id)
    except StoreDamaged as error:
        fault = error.fault if isinstance(error, RowDamaged) else ""
        is_other = fault.startswith("the time")
        yield f"is damaged: {fault}" if is_other else "has recipients that are not those who came in"
        damaged = True
    else:
        yield from _look_at_parts(store, parts, message.held)
    for number in store.unscheduled(message.id):
        yield f"part {number} is missing from an index, and would never be tried"
    if not damaged:
        waiting = [recipient.address for part in parts for recipient in part.recipients]
        yield from _compare(meta.recipients, meta.whom, _ended(entries), waiting)
    yield from _look_at_content(store, found, message)


def _look_at_parts(store: Store, parts: list[PartRow], held: bool) -> Iterator[str]:
    """What is wrong with where they go, and when."""
    for part in parts:
        if part.due is None and not held:
            yield f"part {part.part} is not on hold and has no time at which to be tried, and never would be"
        try:
            known = store.destination_key(part.destination) is not None
        except StoreDamaged:
            yield f"part {part.part} is for destination {part.destination}, which is not the one that it was"
            continue
        if not known:
            yield f"part {part.part} is for destination {part.destination}, which is not known"


def _look_at_content(store: Store, found: Audited, message: MessageRow) -> Iterator[str]:
    """What is wrong with it; one in a file is for the caller to look at."""
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


def _entries(rows: Iterable[Stored]) -> tuple[list[Entry], bool]:
    """Those that can be read, and whether there are others."""
    entries, damaged = [], False
    for message, part, at, entry in rows:
        try:
            entries.append(ledger.decode(entry, message, part))
        except UNDECODABLE:
            damaged = True
        damaged = damaged or not isinstance(at, float)
    return entries, damaged


def _ended(entries: Iterable[Entry]) -> list[bytes]:
    return [end.recipient for entry in entries for end in entry.ends]


def _compare(accepted: int, whom: int, ended: list[bytes], waiting: list[bytes]) -> Iterator[str]:
    """Whether all who were accepted, and nobody else, ended or wait.

    A message from before there was a ledger does not say how many there were (0); a later one may not say who (0).
    """
    count = len(ended) + len(waiting)
    if not accepted or (count == accepted and whom in (0, ledger.whom(ended + waiting))):
        return
    said = f"had {accepted} recipients, of whom {len(ended)} ended and {len(waiting)} wait"
    if count == accepted:
        fault = "not the same who were accepted"
    else:
        fault = f"{'no end' if count < accepted else 'more than one end'} for some"
    yield f"{said}: {fault}{_repeated(ended + waiting)}"


def _repeated(addresses: list[bytes]) -> str:
    """Who is counted more than once. (A client may have named somebody twice; but then it is no fault.)"""
    twice = sorted(address for address, count in Counter(addresses).items() if count > 1)
    return f"; counted more than once: {_named(twice[:_SHOWN])}" if twice else ""


def _named(addresses: Iterable[bytes]) -> str:
    """Addresses, a few of them, for people."""
    shown = [decoded if (decoded := text(address)).isprintable() else ascii(decoded) for address in addresses]
    more = f" and {len(shown) - _SHOWN} others" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _silence(entries: list[Entry], rows: list[Stored]) -> Iterator[str]:
    failed = any(end.end == "failed" and end.told for entry in entries for end in entry.ends)
    if failed and not any(row[1] == ledger.NOTICE for row in rows):
        yield "failed for a recipient, and neither was the sender told nor a triple bounce noted"

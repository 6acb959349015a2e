"""What of a damaged store can be saved: each message with its recipients judged by what was salvaged of it.

A message is saved if its envelope and its content are what came in. Recipients who came to an end, as the ledger or
(where the store itself is not up to date) the log knows, are not delivered to again. What may have been removed
before is saved on hold, for a person to look at: mail is rather kept too long than lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar
from zlib import crc32

from ekiden.base.envelope import Recipient
from ekiden.queue import ledger
from ekiden.queue.ledger import End, Entry
from ekiden.queue.pages import Value
from ekiden.queue.salvage import Row, Salvaged
from ekiden.queue.sealing import damaged_recipients, decode_ended, decode_meta, decode_recipients, key_check
from ekiden.queue.store import NEVER, UNDECODABLE, Meta

RECOVERY = -3
"""In place of a part, in the ledger: what a recovery ended."""

_MOST_ATTEMPTS = 1 << 31
_MOST_TRIED = 10_000
"""Numbers that are tried for one message: the check lets a wrong one pass once in four thousand million."""
_BITS = 48

T = TypeVar("T")


@dataclass
class Known:
    """What the log says of one message: its sender, recipients, those delivered to, and whether it has left.

    Addresses are as the log has them.
    """

    sender: bytes = b""
    recipients: set[bytes] = field(default_factory=set)
    delivered: set[bytes] = field(default_factory=set)
    ended: bool = False


@dataclass
class Part:
    """A part to be stored. ``key`` is its destination's."""

    number: int
    key: bytes
    due: float | None
    attempts: int
    recipients: list[Recipient]
    last: str = ""


@dataclass
class Message:
    """A message to be stored: its row, on hold or not, and its parts. ``ends``: found out from the log."""

    values: dict[str, Value]
    held: bool
    parts: list[Part]
    ends: list[End]


@dataclass
class Finding:
    """What must be said of one message. ``saved``: all of it that still matters was.

    ``recipients``: whom it is about; ``certain``: those of them who are known to be its recipients, with no end.
    ``sender_certain``: whether the sender is what came in. ``values``: the message's row, as far as it was read.
    """

    message: int
    text: str
    saved: bool
    sender: bytes | None = None
    recipients: list[bytes] = field(default_factory=list)
    certain: list[bytes] = field(default_factory=list)
    sender_certain: bool = True
    values: dict[str, Value] = field(default_factory=dict)


class Unreadable(Exception):
    """Why a message cannot be saved."""


class Recovery:
    """``content_fault`` says what is wrong with a row's content, "" if nothing is; ``route`` gives the key of an
    address' destination; ``as_logged`` an address as the log has it; ``now`` is seconds of the epoch."""

    def __init__(
        self,
        found: Salvaged,
        log: Mapping[int, Known],
        content_fault: Callable[[dict[str, Value], Meta], str],
        route: Callable[[bytes], bytes],
        as_logged: Callable[[bytes], bytes],
        now: float,
    ) -> None:
        self.messages: dict[int, Message] = {}
        self.findings: list[Finding] = []
        self.found = found
        self._now = now
        self._log, self._content_fault, self._route, self._as_logged = log, content_fault, route, as_logged
        self._keys = {row.values["id"]: row.values["key"] for row in found.of("destination") if _fits(row)}
        if strange := sum(not _fits(row) for row in found.of("destination")):
            found.damage.append(f"{strange} destinations are not what they were")
        self._rows = {_number(row, "id"): row for row in found.of("message")}
        self._parts: dict[int, dict[int, Row]] = {}
        for row in found.of("part"):
            if row.whole:
                self._parts.setdefault(_number(row, "message"), {})[_number(row, "part")] = row
        self._entries = _entries(found)
        self._number_anew()

    def _number_anew(self) -> None:
        """Give messages whose number is damaged the one that their envelope's check fits: one that recipients wait
        for whose message is missing, or one that differs in a bit."""
        homeless = list(islice(sorted(self._parts.keys() - self._rows.keys()), _MOST_TRIED))
        for number, row in list(self._rows.items()):
            if _envelope_fits(number, row):
                continue
            near = [number ^ 1 << bit for bit in range(_BITS)]
            right = next((one for one in (*homeless, *near) if _envelope_fits(one, row)), number)
            if right not in self._rows:
                self._rows[right] = self._rows.pop(number)
                row.values["id"] = right
                self._move_parts(number, right)
                self.found.damage.append(f"message {right} had the number {number}")

    def _move_parts(self, number: int, right: int) -> None:
        """A start may have given it a part under the wrong number, from its own row; those that it had are newer."""
        parts = self._parts.pop(number, {})
        for part in parts.values():
            part.values["message"] = right
        self._parts.setdefault(right, parts)

    def judge(self) -> None:
        """Fill ``messages`` and ``findings``."""
        for number in sorted(self._rows.keys() | self._parts.keys()):
            if self._has_left(number):
                continue
            row = self._rows.get(number)
            parts = self._parts.get(number, {})
            try:
                if row is None:
                    if any(part.sure for part in parts.values()):
                        raise Unreadable("its sender and content cannot be read")
                    continue
                self._save(number, row, parts)
            except Unreadable as reason:
                self._give_up(number, str(reason))
        self._missing()

    def _has_left(self, number: int) -> bool:
        known = self._log.get(number)
        entries = self._entries.get(number, [])
        return any(entry.beginning is not None for entry in entries) or (known is not None and known.ended)

    def _save(self, number: int, row: Row, parts: dict[int, Row]) -> None:
        values = row.values
        if not row.whole:
            raise Unreadable("its content cannot be read")
        if not _is_time(values["birth"]):
            # It ages from now on.
            values["birth"] = self._now
            self.found.damage.append(f"message {number} had a birth that cannot be")
        meta = _read("its envelope", decode_meta, values["meta"], number, values["sender"])
        if values.get("ended") is not None:
            _read("its failed recipients", decode_ended, values["ended"], number)
        if fault := self._content_fault(values, meta):
            raise Unreadable(fault)
        doubtful = not row.sure or not all(part.sure for part in parts.values())
        waiting, unread = self._readable(parts)
        missing = self._complete(number, values, meta, waiting)
        ends = self._take_out_delivered(number, waiting)
        waiting = [part for part in waiting if part.recipients]
        if missing > 0 and (not parts or unread or "part" not in self.found.whole):
            lost = "cannot be read"
            if "ledger" not in self.found.whole:
                lost = "cannot be read, if they were not delivered before, which is not known"
            self._say(number, f"{missing} of its {meta.recipients} recipients {lost}", False, _seeming(unread))
        elif unread and not meta.recipients:
            self._say(number, "some of its recipients cannot be read", False, _seeming(unread))
        elif unread:
            self._say(number, "some recipients could not be read, and are those that it came in with", True)
        if not waiting and not values.get("ended"):
            return
        if doubtful:
            self._say(number, "may have been delivered already; it is on hold", True, _addresses(waiting))
        held = doubtful or bool(values.get("held"))
        if not held and any(part.due is None for part in waiting):
            self.found.damage.append(f"message {number} had no time at which to be tried")
        if any(not 0 <= _number(row, "attempts") <= _MOST_ATTEMPTS for row in parts.values()):
            self.found.damage.append(f"message {number} had a number of attempts that cannot be")
        self.messages[number] = Message(values, held, waiting, ends)

    def _readable(self, parts: dict[int, Row]) -> tuple[list[Part], list[Row]]:
        """Those whose recipients are what they were, and the rows of the others (but for what was removed before)."""
        waiting, unread = [], []
        for _number, row in sorted(parts.items()):
            try:
                waiting.append(self._part(row))
            except Unreadable:
                unread += [row] if row.sure else []
        return waiting, unread

    def _part(self, row: Row) -> Part:
        values = row.values
        number, destination = _number(row, "message"), _number(row, "destination")
        recipients = _read("its recipients", decode_recipients, values["recipients"], number, destination)
        key = self._keys.get(destination)
        due, last = values.get("due"), values["last"]
        return Part(
            _number(row, "part"),
            key if isinstance(key, bytes) else self._route(recipients[0].address) if recipients else b"",
            float(due) if isinstance(due, (int, float)) and _is_time(due) else None,
            max(0, min(_number(row, "attempts"), _MOST_ATTEMPTS)),
            recipients,
            last if isinstance(last, str) else "",
        )

    def _complete(self, number: int, values: dict[str, Value], meta: Meta, waiting: list[Part]) -> int:
        """Take out who has ended, add from the message's own row who is in no part; how many are still missing."""
        ended = self._ended(number)
        left = Counter(ended)
        for part in waiting:
            part.recipients = [one for one in part.recipients if not _taken(left, one.address)]
        own = values.get("recipients")
        # The row has the first part as it was when the message came in: its own row, if it has one, is newer. Where
        # all are accounted for, a name that differs is a damaged one. Where another part is there, and it cannot be
        # known who ended, who is in no part has ended.
        replaced = any(part.number == 0 for part in waiting)
        complete = 0 < meta.recipients <= ended.total() + sum(len(part.recipients) for part in waiting)
        if isinstance(own, bytes) and not (replaced or complete) and (not waiting or "ledger" in self.found.whole):
            there = ended + Counter(one.address for part in waiting for one in part.recipients)
            first = _read("its recipients", decode_recipients, own, number, values["destination"])
            absent = [one for one in first if not _taken(there, one.address)]
            by_key: dict[bytes, list[Recipient]] = {}
            for one in absent:
                by_key.setdefault(self._route(one.address), []).append(one)
            following = 1 + max((part.number for part in waiting), default=-1)
            birth = values["birth"]
            assert isinstance(birth, (int, float))
            waiting += [
                Part(following + place, key, float(birth), 0, recipients)
                for place, (key, recipients) in enumerate(by_key.items())
            ]
        count = sum(len(part.recipients) for part in waiting) + ended.total()
        return meta.recipients - count if meta.recipients else 0

    def _take_out_delivered(self, number: int, waiting: list[Part]) -> list[End]:
        known = self._log.get(number)
        if known is None or not known.delivered:
            return []
        ends = []
        for part in waiting:
            done = [one for one in part.recipients if self._as_logged(one.address) in known.delivered]
            part.recipients = [one for one in part.recipients if one not in done]
            ends += [End(one.address, "delivered", report="so says the log; found by queue recover") for one in done]
        return ends

    def _give_up(self, number: int, reason: str) -> None:
        row = self._rows.get(number)
        parts = self._parts.get(number, {})
        values = row.values if row is not None else {}
        sender = values.get("sender")
        certain, seeming = self._whom(number, row, parts)
        finding = Finding(number, reason, False, sender if isinstance(sender, bytes) else None)
        finding.recipients, finding.certain = certain + seeming, certain
        finding.sender_certain, finding.values = row is not None and _envelope_fits(number, row), values
        self.findings.append(finding)

    def _whom(self, number: int, row: Row | None, parts: dict[int, Row]) -> tuple[list[bytes], list[bytes]]:
        """Recipients of a message that is not saved: those who check, have no end and wait, and what others seem."""
        own = row.values if row is not None else {}
        if not parts and isinstance(own.get("destination"), int):
            parts = {0: Row(own | {"message": number, "part": 0, "attempts": 0, "last": ""}, True)}
        waiting, unread = self._readable(parts)
        ended = self._ended(number)
        return [one for one in _addresses(waiting) if not _taken(ended, one)], _seeming(unread)

    def _ended(self, number: int) -> Counter[bytes]:
        """Who came to an end, as the ledger says."""
        return Counter(end.recipient for entry in self._entries.get(number, []) for end in entry.ends)

    def _say(self, number: int, text: str, saved: bool, recipients: Iterable[bytes] = ()) -> None:
        values = self._rows[number].values
        sender = values["sender"]
        known = sender if isinstance(sender, bytes) else None
        self.findings.append(Finding(number, text, saved, known, list(recipients), values=values))

    def _missing(self) -> None:
        """Messages that only the log knows of."""
        known = self.messages.keys() | self._entries.keys() | {finding.message for finding in self.findings}
        for number, told in sorted(self._log.items()):
            left = told.recipients - told.delivered
            if number not in known and not told.ended and (left or not told.recipients):
                text = "it is in the log, and nothing of it can be read"
                self.findings.append(Finding(number, text, False, told.sender, sorted(left)))


def check_inline(values: dict[str, Value], meta: Meta) -> str:
    """What is wrong with a content that is in the row; "" if nothing is."""
    content = values.get("content")
    if not isinstance(content, bytes) or len(content) != values["size"]:
        return "its content cannot be read"
    return "its content is damaged" if meta.checksum and crc32(content) != meta.checksum else ""


def _taken(counts: Counter[bytes], address: bytes) -> bool:
    """Whether there is one of this address left, which is taken."""
    if counts[address] <= 0:
        return False
    counts[address] -= 1
    return True


def _entries(found: Salvaged) -> dict[int, list[Entry]]:
    """Those that can be read; of others nothing is kept."""
    entries: dict[int, list[Entry]] = {}
    damaged = 0
    for row in found.of("ledger"):
        octets, number, part = row.values.get("entry"), _number(row, "message"), _number(row, "part")
        if row.whole and isinstance(octets, bytes):
            try:
                entries.setdefault(number, []).append(ledger.decode(octets, number, part))
            except UNDECODABLE:
                row.whole = False
                damaged += row.sure
    if damaged:
        found.damage.append(f"{damaged} entries of the ledger are damaged")
        found.whole.discard("ledger")
    return entries


def _fits(row: Row) -> bool:
    """Whether a destination's key is the one that was written; one without a check is believed."""
    key, number, check = row.values["key"], row.values["id"], row.values.get("seal")
    return check is None or (isinstance(key, bytes) and isinstance(number, int) and check == key_check(key, number))


def _is_time(value: Value) -> bool:
    return isinstance(value, (int, float)) and -NEVER < value < NEVER


def _envelope_fits(number: int, row: Row) -> bool:
    """Whether sender and envelope are those that came in."""
    try:
        _read("", decode_meta, row.values.get("meta"), number, row.values.get("sender"))
    except Unreadable:
        return False
    return True


def _seeming(rows: Iterable[Row]) -> list[bytes]:
    """Whom damaged rows name, to be told to a person and used for nothing."""
    found: list[bytes] = []
    for row in rows:
        octets = row.values.get("recipients")
        with suppress(*UNDECODABLE):
            found += [one.address for one in damaged_recipients(octets)] if isinstance(octets, bytes) else []
    return found


def _addresses(parts: Iterable[Part]) -> list[bytes]:
    return [one.address for part in parts for one in part.recipients]


def _read(what: str, decode: Callable[..., T], *values: Value) -> T:
    """What ``decode`` makes of a row's values."""
    try:
        return decode(*values)
    except UNDECODABLE:
        raise Unreadable(f"{what} cannot be read") from None


def _number(row: Row, column: str) -> int:
    value = row.values[column]
    assert isinstance(value, int)
    return value

"""The stories of messages out of the log, the ledger and the queue: found, gathered and put in order.

The log says what was tried and when, in its own order, whatever the clock did; the ledger, how messages came in and
how their recipients ended; the queue, what waits. Memory is bounded: of what fits, as many events of the log are
gathered at a time as ``KEPT`` says, and the log is read again for the rest.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from ekiden.queue.audit import LAST
from ekiden.queue.inspect import Filter
from ekiden.runtime.books import Ask, ledger, queued
from ekiden.runtime.control_frames import ControlAnswer, Ledger, List, Rows
from ekiden.runtime.log import safe
from ekiden.runtime.logreader import Event, events

KEPT = 200_000
"""Events of the log that are gathered at once: some 150 MB."""

STATES = frozenset({"waits", "on hold"})
"""What is so, in contrast to what has happened."""

_CAME_IN = ("sender", "bytes", "protocol", "client", "helo", "uid", "message_id")
_PAGE = 200
_NOTICE = re.compile(r"<[0-9]+\.([0-9]{1,19})\.[^.]+\.bounce@")
_PEER = re.compile(r"(?:Connected[ _]to[ _])?([^ _]+)")
_PORT = re.compile(r":[0-9]+$")


class Wanted:
    """What is asked for: shell patterns or the text itself, by field, case folded, and a range of time.

    ``patterns``: any of several per field may fit. One event of a story or another must fit each field, and one that
    happened must lie in the range.
    """

    def __init__(self, patterns: dict[str, list[str]], since: float | None, until: float | None) -> None:
        self._tests: list[Callable[[Event], bool]] = [
            _test(name, [pattern.lower() for pattern in several]) for name, several in patterns.items()
        ]
        if since is not None or until is not None:
            self._tests.append(_within(since or 0.0, 9e15 if until is None else until))
        self.all = (1 << len(self._tests)) - 1

    def fits(self, event: Event) -> int:
        """A bit for each thing asked for that the event fits."""
        bits = 0
        for place, test in enumerate(self._tests):
            bits |= test(event) << place
        return bits


def _test(name: str, patterns: list[str]) -> Callable[[Event], bool]:
    values = _VALUES[name]

    def test(event: Event) -> bool:
        folded = [str(value).lower() for value in values(event) if value is not None]
        # An address literal is a pattern that does not fit itself.
        return any(value == pattern or fnmatchcase(value, pattern) for value in folded for pattern in patterns)

    return test


def _within(since: float, until: float) -> Callable[[Event], bool]:
    return lambda event: since <= event["time"] <= until and event["event"] not in STATES


def _senders(event: Event) -> list[Any]:
    # Who was refused before it named a sender is not the null sender.
    unknown = event["event"] == "refuse" and not event.get("recipient")
    return [event.get("sender") or (None if unknown else event.get("sender"))]


def _recipients(event: Event) -> list[Any]:
    return [event.get("recipient") or None]


def _remotes(event: Event) -> list[Any]:
    """The client's address, and the next hop's: at the front of its report, as in ``192.0.2.1_accepted_message``."""
    peer = _PEER.match(str(event.get("report", "")))
    hop = _PORT.sub("", str(event.get("destination", ""))).removeprefix("lmtp:")
    values = [event.get("client"), event.get("remote"), peer and peer[1], hop]
    return [str(value).strip("[]") for value in values if value]


def _message_ids(event: Event) -> list[Any]:
    known = event.get("message_id")
    return [known, known.strip("<>")] if known else []


_VALUES: dict[str, Callable[[Event], list[Any]]] = {
    "sender": _senders,
    "recipient": _recipients,
    "remote": _remotes,
    "message_id": _message_ids,
}


def stories(home: Path, ask: Ask, wanted: Wanted) -> Iterator[list[Event]]:
    """What fits, each in the order in which it happened: refusals one by one, then messages by their numbers.

    OSError if the log cannot be read.
    """
    fitting: dict[int, int] = {}
    for event in _everything(home, ask):
        fits = wanted.fits(event)
        if "message" not in event:
            if fits == wanted.all:
                yield [event]
        elif fits and 0 < event["message"] <= LAST:
            fitting[event["message"]] = fitting.get(event["message"], 0) | fits
    chosen = sorted(number for number, fits in fitting.items() if fits == wanted.all)
    fitting.clear()
    yield from stories_of(home, ask, chosen)


def stories_of(home: Path, ask: Ask, numbers: list[int]) -> Iterator[list[Event]]:
    """The stories of these messages, whose numbers must be in order; of none of which nothing is known."""
    while numbers:
        logged, border = _gather(home, set(numbers))
        batch = [number for number in numbers if number < border]
        entries = _Shelf(partial(_entries, ask, batch[-1]))
        waiting = _Shelf(partial(_waiting, ask, min(_PAGE, len(batch))))
        for number in batch:
            booked = [event for entry in entries.take(number) for event in _told_by_ledger(entry)]
            booked += [event for row in waiting.take(number) for event in _told_by_queue(row)]
            if story := in_order(logged.pop(number, []), booked):
                yield story
        numbers = numbers[len(batch) :]


def _everything(home: Path, ask: Ask) -> Iterator[Event]:
    yield from events(home / "log")
    for entry in ledger(ask):
        yield from _told_by_ledger(entry)
    for row in queued(ask):
        yield from _told_by_queue(row)


def _gather(home: Path, numbers: set[int]) -> tuple[dict[int, list[Event]], int]:
    """What the log says of these messages, of those below a border that memory sets; and the border."""
    gathered: dict[int, list[Event]] = {}
    border = LAST + 1
    count = 0
    for event in events(home / "log"):
        for told in (event, *_back(event)):
            number = told.get("message", LAST)
            if number in numbers and number < border:
                gathered.setdefault(number, []).append(told)
                count += 1
        if count > KEPT and len(gathered) > 1:
            upper = sorted(gathered)[len(gathered) // 2 :]
            border = upper[0]
            count -= sum(len(gathered.pop(number)) for number in upper)
    return gathered, border


def _back(event: Event) -> Iterator[Event]:
    """What an event says about a message that came of its own: where that is from."""
    if event["event"] == "bounce":
        yield {"time": event["time"], "event": "notice", "message": event["notice"], "of": event["message"]}
    for made in event.get("forwards", ()):
        of = {"of": event["message"], "recipient": event["recipient"]}
        yield {"time": event["time"], "event": "forward", "message": made, **of}


def _entries(ask: Ask, until: int, after: int) -> ControlAnswer:
    return ask(Ledger(after, until))


def _waiting(ask: Ask, limit: int, after: int) -> ControlAnswer:
    return ask(List(after, limit, Filter()))


class _Shelf:
    """Rows in the order of their ids, fetched a page at a time from the next that is wanted."""

    def __init__(self, fetch: Callable[[int], ControlAnswer]) -> None:
        self._fetch = fetch
        self._rows: deque[dict[str, Any]] = deque()
        self._reach = -1

    def take(self, number: int) -> Iterator[dict[str, Any]]:
        """All rows with this id, which is higher than the one asked for before."""
        while self._reach < number:
            answer = self._fetch(max(self._reach, number - 1))
            assert isinstance(answer, Rows)
            self._rows = deque(map(json.loads, answer.rows))
            self._reach = answer.next or LAST
        while self._rows and self._rows[0]["id"] <= number:
            row = self._rows.popleft()
            if row["id"] == number:
                yield row


def in_order(logged: list[Event], booked: list[Event]) -> list[Event]:
    """One message's events as they happened.

    The log's order stands. An end follows what led to it; what the log does not reach stands by its time.
    """
    before = [event for event in booked if event["event"] == "came in"][:1]
    states = [event for event in booked if event["event"] in STATES]
    back = [event for event in logged if event["event"] in _BACK] or list(map(_named_back, filter(_named, before)))
    logged = [event for event in logged if event["event"] not in _BACK]
    ends = _Ends(event for event in booked if event["event"] not in STATES and event["event"] != "came in")
    ends.drop_told(logged)
    story: list[Event] = []
    # From the last on: what was tried again after a crash has its end there.
    for event in reversed(logged):
        story += [*ends.led_to_by(event), event]
    return [*before, *back, *_merged(list(reversed(story)), ends.left()), *states]


class _Ends:
    """What the ledger says of how a message's recipients ended and what the sender was told."""

    def __init__(self, ends: Iterable[Event]) -> None:
        self._attempted: dict[tuple[str, str], list[Event]] = {}
        self._administered: dict[str, list[Event]] = {}
        self._told: list[Event] = []
        for end in ends:
            word = end["event"]
            if "recipient" not in end:
                self._told.append(end)
            elif word == "deleted" or (word == "failed" and end["report"].startswith("returned by ")):
                self._administered.setdefault("delete" if word == "deleted" else "bounce", []).append(end)
            else:
                self._attempted.setdefault((word, _shown(end)), []).append(end)

    def drop_told(self, logged: list[Event]) -> None:
        """Forget what the log says, too, of what the sender was told."""
        notices = {event.get("notice", 0) for event in logged if event["event"].endswith("bounce")}
        self._told = [event for event in self._told if event.get("notice", 0) not in notices]

    def led_to_by(self, event: Event) -> list[Event]:
        """The ends that this event brought about, the last first, each only once."""
        if event["event"] == "administrator":
            return self._administered.pop(event.get("action", ""), [])[::-1]
        if event["event"] in _LEADING:
            ends = self._attempted.get((_LEADING[event["event"]], _shown(event)))
            return [ends.pop()] if ends else []
        return []

    def left(self) -> list[Event]:
        """All others, by their time."""
        groups = (*self._attempted.values(), *self._administered.values(), self._told)
        return sorted((event for group in groups for event in group), key=lambda event: float(event["time"]))


_BACK = ("notice", "forward")
_LEADING = {"success": "delivered", "failure": "failed"}


def _shown(event: Event) -> str:
    """The recipient as the log's lines show it."""
    return safe(str(event["recipient"]).encode("utf-8", "replace"))


def _merged(story: list[Event], others: list[Event]) -> Iterator[Event]:
    """``others``, in the order of time, each before the first event that is later."""
    place = 0
    for event in story:
        while place < len(others) and others[place]["time"] < event["time"]:
            yield others[place]
            place += 1
        yield event
    yield from others[place:]


def _named(came: Event) -> bool:
    """Whether a message is a notice, the Message-ID of which tells whose."""
    return came["protocol"] == "bounce" and _NOTICE.match(came["message_id"]) is not None


def _named_back(came: Event) -> Event:
    found = _NOTICE.match(came["message_id"])
    assert found is not None
    return {"time": came["time"], "event": "notice", "message": came["message"], "of": int(found[1])}


def _told_by_ledger(entry: dict[str, Any]) -> Iterator[Event]:
    number = entry["id"]
    if "birth" in entry:
        came_in = {name: entry[name] for name in (*_CAME_IN, "recipients")}
        yield {"time": entry["birth"], "event": "came in", "message": number, **came_in}
    for end in entry["ends"]:
        known = {name: end[name] for name in ("recipient", "status", "report", "remote", "told")}
        yield {"time": entry["at"], "event": end["end"], "message": number, **known}
    if entry.get("notice"):
        yield {"time": entry["at"], "event": "bounce", "message": number, "notice": entry["notice"]}
    elif "notice" in entry:
        yield {"time": entry["at"], "event": "silence", "message": number}


def _told_by_queue(message: dict[str, Any]) -> Iterator[Event]:
    number = message["id"]
    came_in = {name: message[name] for name in _CAME_IN}
    yield {"time": message["birth"], "event": "came in", "message": number, **came_in}
    for recipient in message["recipients"]:
        waiting = {name: recipient[name] for name in ("recipient", "destination", "attempts", "due")}
        yield {
            "time": time.time(),
            "event": "on hold" if message["held"] else "waits",
            "message": number,
            "report": recipient["last"],
            **waiting,
        }

"""trace: the whole story of messages, refusals at the door included, out of the log, the ledger and the queue."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from ekiden.commands.books import Ask, books, ledger, queued
from ekiden.commands.queueing import Age
from ekiden.runtime.administration import Rows, Show
from ekiden.runtime.logreader import Event, events


class When(click.ParamType[float]):
    """An age such as ``2h``, or a local date and time such as ``2026-11-23 14:00``: seconds of the epoch."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return time.time() - Age().convert(value, param, ctx)


class Wanted:
    """What the options ask for: patterns are the shell's, case does not matter."""

    def __init__(self, patterns: dict[str, str], since: float, until: float) -> None:
        self._patterns = [(name, pattern.lower()) for name, pattern in patterns.items() if pattern]
        self._since = since
        self._until = until
        self.all = (2 << len(self._patterns)) - 1

    def fits(self, event: Event) -> int:
        """A bit for each thing asked for that the event fits; one event of a story or another must have each."""
        bits = int(self._since <= event["time"] <= self._until)
        for place, (name, pattern) in enumerate(self._patterns, 1):
            bits |= _fits(event, name, pattern) << place
        return bits


def _fits(event: Event, name: str, pattern: str) -> bool:
    if name == "remote":
        # The next hop's address stands at the front of its report, as in 192.0.2.1_accepted_message.
        report = str(event.get("report", "")).replace(" ", "_").partition("_")[0]
        values = [event.get("client"), event.get("remote"), report]
    elif name == "message_id":
        known = str(event.get(name, ""))
        values = [known, known.strip("<>")]
    else:
        values = [event.get(name)]
    return any(fnmatchcase(str(value).lower(), pattern) for value in values if value)


@click.command()
@click.argument("message", type=click.IntRange(0, (1 << 62) - 1), required=False)
@click.option("--sender", default="", metavar="PATTERN", help="Envelope sender (shell pattern).")
@click.option("--recipient", default="", metavar="PATTERN", help="A recipient.")
@click.option("--remote", default="", metavar="ADDRESS", help="The client's or the next hop's address.")
@click.option("--message-id", default="", metavar="PATTERN", help="Of its field, with or without <>.")
@click.option("--since", type=When(), default=0.0, help="From then on: an age such as 2h, or 2026-11-23 14:00.")
@click.option("--until", type=When(), default=9e15, help="Up to then.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.pass_obj
def trace(home: Path, /, message: int | None, since: float, until: float, as_json: bool, **patterns: str) -> int:
    """Tell what happened to messages and why; exit code 1 if nothing is known.

    With a message's number, its story; else those of all that fit the options, and the refusals that fit them.
    """
    if message is None and not any(patterns.values()) and not since and until > 1e15:
        raise click.UsageError("say which: a message's number, or one of the options but --json")
    found = False
    with books(home) as ask:
        for story in _stories(home, ask, message, Wanted(patterns, since, until)):
            found = True
            for event in story:
                click.echo(json.dumps(event) if as_json else _line(event))
            if not as_json:
                click.echo()
    if not found:
        click.echo("nothing is known of that in the log, the ledger or the queue", err=True)
    return 0 if found else 1


def _stories(home: Path, ask: Ask, message: int | None, wanted: Wanted) -> Iterator[list[Event]]:
    """What fits, each in the order of time: refusals one by one, then messages by their numbers.

    Everything is looked through once for what fits, and then that is gathered: millions of others cost no memory.
    """
    chosen = set() if message is None else {message}
    if message is None:
        fitting: dict[int, int] = {}
        for event in _everything(home, ask):
            fits = wanted.fits(event)
            if "message" in event:
                fitting[event["message"]] = fitting.get(event["message"], 0) | fits
            elif fits == wanted.all:
                yield [event]
        chosen = {number for number, fits in fitting.items() if fits == wanted.all}
    logged: dict[int, list[Event]] = {}
    for event in _logged(home) if chosen else ():
        if event.get("message") in chosen:
            logged.setdefault(event["message"], []).append(event)
    for number in sorted(chosen):
        story = logged.pop(number, []) + list(_booked(ask, number))
        if story:
            yield sorted(story, key=_time)


def _everything(home: Path, ask: Ask) -> Iterator[Event]:
    yield from _logged(home)
    for entry in ledger(ask):
        yield from _told_by_ledger(entry)
    for row in queued(ask):
        yield from _told_by_queue(row)


def _logged(home: Path) -> Iterator[Event]:
    try:
        yield from events(home / "log")
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


def _booked(ask: Ask, number: int) -> Iterator[Event]:
    """What ledger and queue know of a message."""
    for entry in ledger(ask, max(0, number - 1), number):
        yield from _told_by_ledger(entry)
    shown = ask(Show(number))
    assert isinstance(shown, Rows)
    for row in shown.rows:
        yield from _told_by_queue(json.loads(row))


def _time(event: Event) -> float:
    return float(event["time"])


def _told_by_ledger(entry: dict[str, Any]) -> Iterator[Event]:
    number = entry["id"]
    if "birth" in entry:
        yield {"time": entry["birth"], "event": "came in", "message": number} | {
            name: entry[name] for name in (*_CAME_IN, "recipients")
        }
    for end in entry["ends"]:
        yield {"time": entry["at"], "event": end["end"], "message": number} | {
            name: end[name] for name in ("recipient", "status", "report", "remote", "told")
        }


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


_CAME_IN = ("sender", "bytes", "protocol", "client", "helo", "uid", "message_id")

_SENTENCES = {
    "came in": "came in from <{sender}>, {bytes} octets, by {protocol}{origin}{named}",
    "new": "is in the queue",
    "info": "{bytes} octets from <{sender}> by user {uid}",
    "starting": "attempt to {recipient} ({channel})",
    "success": "delivered to {recipient}: {report}",
    "deferral": "put off for {recipient}: {report}",
    "failure": "failed for {recipient}: {report}",
    "bounce": "message {notice} tells the sender",
    "double bounce": "nobody is told: a notice failed, and double bounces are thrown away",
    "triple bounce": "nobody can be told: a notice about a notice failed",
    "end": "left the queue",
    "administrator": "{action} by {user}",
    "delivered": "ended for {recipient}: delivered {status} {report}",
    "failed": "ended for {recipient}: failed {status} {report}",
    "deleted": "ended for {recipient}: {report}",
    "waits": "waits for {recipient} via {destination}, {attempts} attempts {report}",
    "on hold": "on hold for {recipient} via {destination}, {attempts} attempts {report}",
    "refuse": "refused {client}: {reason}",
}


class _Blank(dict[str, Any]):
    def __missing__(self, _key: str) -> str:
        return ""


def _line(event: Event) -> str:
    """An event as a line for people."""
    fields = _Blank(event)
    helo = f" (HELO {event['helo']})" if event.get("helo") else ""
    fields["origin"] = f" from {event['client']}{helo}" if event.get("client") else f" by user {event.get('uid', '')}"
    fields["named"] = f", {event['message_id']}" if event.get("message_id") else ""
    if event["event"] == "refuse" and (event.get("sender") or event.get("recipient")):
        to = f" to <{event['recipient']}>" if event.get("recipient") else ""
        fields["client"] = f"{event['client']}{helo}, <{event.get('sender', '')}>{to}"
    if event["event"] == "failed" and not event["told"]:
        fields["report"] += " (nobody is told: NOTIFY asks for that)"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    number = f"msg {event['message']} " if "message" in event else ""
    said = _SENTENCES[event["event"]].format_map(fields)
    return f"{when} {number}{' '.join(said.split())}"

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

from ekiden.commands.books import books, ledger, queued
from ekiden.commands.queueing import Age
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

    def __init__(self, message: int | None, patterns: dict[str, str], since: float, until: float) -> None:
        self.message = message
        self._patterns = {name: pattern.lower() for name, pattern in patterns.items() if pattern}
        self._since = since
        self._until = until

    def in_time(self, event: Event) -> bool:
        """Whether it happened in the range that was asked for."""
        return bool(self._since <= event["time"] <= self._until)

    def missing(self, event: Event) -> set[str]:
        """The patterns that this event alone does not fit."""
        return {name for name, pattern in self._patterns.items() if not _fits(event, name, pattern)}

    @property
    def names(self) -> set[str]:
        """The patterns that must be fitted, by one event of the story or another."""
        return set(self._patterns)


def _fits(event: Event, name: str, pattern: str) -> bool:
    if name == "remote":
        # The next hop's address stands at the front of its report, as in 192.0.2.1_accepted_message.
        report = str(event.get("report", "")).replace(" ", "_").partition("_")[0]
        values = [event.get("client"), event.get("remote"), report]
    else:
        values = [event.get(name)]
    return any(fnmatchcase(str(value).lower(), pattern) for value in values if value)


@click.command()
@click.argument("message", type=click.IntRange(0, (1 << 62) - 1), required=False)
@click.option("--sender", default="", metavar="PATTERN", help="Envelope sender (shell pattern).")
@click.option("--recipient", default="", metavar="PATTERN", help="A recipient.")
@click.option("--remote", default="", metavar="ADDRESS", help="The client's or the next hop's address.")
@click.option("--since", type=When(), default=0.0, help="From then on: an age such as 2h, or 2026-11-23 14:00.")
@click.option("--until", type=When(), default=9e15, help="Up to then.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.pass_obj
def trace(home: Path, /, message: int | None, since: float, until: float, as_json: bool, **patterns: str) -> int:
    """Tell what happened to messages and why; exit code 1 if nothing is known.

    With a message's number, its story; else those of all that fit the options, and the refusals that fit them.
    """
    if message is None and not any(patterns.values()) and not since and until > 1e15:
        raise click.UsageError("say which: a message's number, --sender, --recipient, --remote, --since or --until")
    try:
        known = _gather(home)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    stories = list(_choose(known, Wanted(message, patterns, since, until)))
    for story in stories:
        for event in story:
            click.echo(json.dumps(event) if as_json else _line(event))
        if not as_json:
            click.echo()
    if not stories:
        click.echo("nothing is known of that in the log, the ledger or the queue", err=True)
    return 0 if stories else 1


def _gather(home: Path) -> list[Event]:
    """Everything that is known, in the order of time."""
    known = list(events(home / "log"))
    with books(home) as ask:
        for entry in ledger(ask):
            known += _told_by_ledger(entry)
        known += [event for message in queued(ask) for event in _told_by_queue(message)]
    return sorted(known, key=lambda event: float(event["time"]))


def _told_by_ledger(entry: dict[str, Any]) -> Iterator[Event]:
    number = entry["id"]
    if "birth" in entry:
        yield {"time": entry["birth"], "event": "came in", "message": number} | {
            name: entry[name] for name in ("sender", "bytes", "protocol", "client", "helo", "uid", "recipients")
        }
    for end in entry["ends"]:
        yield {"time": entry["at"], "event": end["end"], "message": number} | {
            name: end[name] for name in ("recipient", "status", "report", "remote")
        }


def _told_by_queue(message: dict[str, Any]) -> Iterator[Event]:
    number = message["id"]
    came_in = {name: message[name] for name in ("sender", "bytes", "protocol", "client", "helo", "uid")}
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


def _choose(known: list[Event], wanted: Wanted) -> Iterator[list[Event]]:
    """The stories that fit, each in the order of time: of messages by their numbers, and of refusals one by one."""
    stories: dict[int, list[Event]] = {}
    for event in known:
        if "message" in event:
            stories.setdefault(event["message"], []).append(event)
        elif wanted.message is None and wanted.in_time(event) and not wanted.missing(event):
            yield [event]
    for number in sorted(stories):
        story = stories[number]
        if wanted.message is not None:
            chosen = number == wanted.message
        else:
            missing = wanted.names
            for event in story:
                missing &= wanted.missing(event)
            chosen = not missing and any(map(wanted.in_time, story))
        if chosen:
            yield story


_SENTENCES = {
    "came in": "came in from <{sender}>, {bytes} octets, by {protocol}{origin}",
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
    if event["event"] == "refuse" and event.get("recipient"):
        fields["client"] = f"{event['client']}{helo}, <{event.get('sender', '')}> to <{event['recipient']}>"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    number = f"msg {event['message']} " if "message" in event else ""
    said = _SENTENCES[event["event"]].format_map(fields)
    return f"{when} {number}{' '.join(said.split())}"

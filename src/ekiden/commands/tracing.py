"""trace: the whole story of messages, refusals at the door included, out of the log, the ledger and the queue."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ekiden.commands.books import books
from ekiden.commands.queueing import ID, Age
from ekiden.commands.terminal import plain
from ekiden.commands.trouble import unusable
from ekiden.routing.destination import RouteError
from ekiden.routing.route import Router
from ekiden.runtime.logreader import Event
from ekiden.runtime.stories import STATES, Wanted, stories, stories_of
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError


class When(click.ParamType[float]):
    """An age such as ``2h``, or a local date and time such as ``2026-11-23 14:00``: seconds of the epoch."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value).timestamp()
        try:
            return time.time() - Age().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither an age such as 90, 15m, 2h or 7d nor a time such as 2026-11-23 14:00")


@click.command()
@click.argument("message", type=ID, required=False)
@click.option("--sender", metavar="PATTERN", help="Envelope sender (shell pattern); '' is that of bounces.")
@click.option("--recipient", metavar="PATTERN", help="A recipient.")
@click.option("--remote", metavar="ADDRESS", help="The client's or the next hop's address.")
@click.option("--message-id", metavar="PATTERN", help="Of its field, with or without <>.")
@click.option("--since", type=When(), help="Something happened from then on: an age such as 2h, or 2026-11-23 14:00.")
@click.option("--until", type=When(), help="Something happened up to then.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.pass_obj
def trace(
    home: Path, /, message: int | None, since: float | None, until: float | None, as_json: bool, **options: str | None
) -> int:
    """Tell what happened to messages and why; exit code 1 if nothing is known.

    With a message's number, its story; else those of all that fit the options, and the refusals that fit them.
    """
    patterns = {name: pattern for name, pattern in options.items() if pattern is not None}
    asked = bool(patterns) or since is not None or until is not None
    if asked == (message is not None):
        raise click.UsageError("say which: a message's number, or options such as --sender or --since")
    found = False
    try:
        with books(home) as ask:
            if message is not None:
                told = stories_of(home, ask, [message])
            else:
                told = stories(home, ask, Wanted(_with_rewritten(home, patterns), since, until))
            for story in told:
                found = True
                _tell(story, as_json)
    except OSError as error:
        if error.filename is None:
            raise
        raise unusable(error) from None
    if not found:
        click.echo("nothing is known of that in the log, the ledger or the queue", err=True)
    return 0 if found else 1


def _with_rewritten(home: Path, patterns: dict[str, str]) -> dict[str, list[str]]:
    """Each field's patterns: a recipient is known by the name that virtualdomains gives it, too."""
    wanted = {name: [pattern] for name, pattern in patterns.items()}
    if "@" in patterns.get("recipient", ""):
        with suppress(SettingsError, RouteError):
            rewritten = Router(read(home / "control")).route(os.fsencode(patterns["recipient"])).recipient
            wanted["recipient"].append(rewritten.decode("utf-8", "backslashreplace"))
    return wanted


def _tell(story: list[Event], as_json: bool) -> None:
    for event in story:
        click.echo(json.dumps(event) if as_json else _line(event))
    if not as_json:
        click.echo()


_SENTENCES = {
    "came in": "came in from <{sender}>, {bytes} octets, by {protocol}{origin}{named}",
    "notice": "tells what became of message {of}",
    "forward": "was sent on when message {of} was delivered to {recipient}",
    "new": "is in the queue",
    "info": "{bytes} octets from <{sender}> by user {uid}",
    "starting": "attempt to {recipient} ({channel})",
    "success": "delivered to {recipient}{as_messages}: {report}",
    "deferral": "put off for {recipient}: {report}",
    "failure": "failed for {recipient}: {report}",
    "bounce": "message {notice} tells of it",
    "double bounce": "nobody is told: a notice failed, and double bounces are thrown away",
    "triple bounce": "nobody can be told: a notice about a notice failed",
    "silence": "nobody is told: it is a notice itself",
    "end": "left the queue",
    "administrator": "{action} by {user}",
    "delivered": "ended for {recipient}: delivered {status} {report}",
    "failed": "ended for {recipient}: failed {status} {report}",
    "deleted": "ended for {recipient}: {report}",
    "waits": "waits for {recipient} via {destination}{next}",
    "on hold": "on hold for {recipient} via {destination}{next}",
    "refuse": "refused {client}: {reason}",
}


class _Blank(dict[str, Any]):
    def __missing__(self, _key: str) -> str:
        return ""


def _line(event: Event) -> bytes:
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
    fields["as_messages"] = "".join(f", as message {made}" for made in event.get("forwards", ()))
    fields["next"] = _next(event) if event["event"] in STATES else ""
    number = f"msg {event['message']} " if "message" in event else ""
    said = " ".join(_SENTENCES[event["event"]].format_map(fields).split())
    return plain(f"{_when(event['time'])} {number}{said}")


def _next(event: Event) -> str:
    if not event["attempts"]:
        return ", not tried yet"
    attempts = "1 attempt" if event["attempts"] == 1 else f"{event['attempts']} attempts"
    due = f", next {_when(event['due'])}" if event["due"] is not None and event["event"] == "waits" else ""
    return f", {attempts}{due}: {event['report']}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

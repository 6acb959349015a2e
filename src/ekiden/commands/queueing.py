"""queue list, show, flush, hold, release, delete, requeue, bounce."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiden.commands.late import LateGroup
from ekiden.commands.terminal import plain
from ekiden.commands.trouble import TryAgain

if TYPE_CHECKING:
    from ekiden.queue.inspect import Filter
    from ekiden.runtime.books import Ask
    from ekiden.runtime.control_frames import Acted

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BATCH = 200
_PAGE = 100
"""Messages that are listed for people at once."""

_SHOWN = 1 << 24
"""Octets of a content that are shown at most: one answer holds them."""

_BUSY = "being delivered just now"
_NOTHING = "not in the queue, or so already"
ID = click.IntRange(0, (1 << 62) - 1)
"""Message numbers as the queue can hold them."""


class Age(click.ParamType[float]):
    """``90``, ``15m``, ``2h``, ``7d``: seconds."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", value)
        if not found:
            self.fail(f"{value!r} is not an age such as 90, 15m, 2h or 7d", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


def filters(command: Callable[..., int]) -> Callable[..., int]:
    """The options that say which messages are meant."""
    for option in (
        click.option("--sender", metavar="PATTERN", help="Envelope sender (shell pattern); '' is that of bounces."),
        click.option("--recipient", metavar="PATTERN", help="A recipient still to be delivered."),
        click.option("--destination", metavar="PATTERN", help="Next hop, as `queue show` has it."),
        click.option("--older", type=Age(), help="At least this old: 90, 15m, 2h, 7d."),
        click.option("--younger", type=Age(), help="At most this old."),
        click.option("--held/--not-held", default=None, help="Only messages on hold, or only others."),
    ):
        command = option(command)
    return command


def _filter(options: dict[str, Any]) -> Filter:
    from ekiden.queue.inspect import Filter

    return Filter(**{name: value for name, value in options.items() if value is not None})


@contextmanager
def _asking(home: Path) -> Iterator[Ask]:
    """A way to ask for changes, which only the running queue makes."""
    from ekiden.runtime.control import Asking

    try:
        asking = Asking(home)
    except PermissionError:
        raise click.ClickException(f"only root and the owner of {home} may change the queue") from None
    except OSError:
        raise TryAgain(f"the queue in {home} does not answer; start it with: ekiden --home {home} start") from None
    with asking:
        try:
            yield asking.ask
        except OSError as error:
            raise TryAgain(f"the queue does not answer: {error.strerror or error}") from None


def _matching(ask: Ask, wanted: Filter, limit: int, after: int = 0) -> Iterator[bytes]:
    """Rows of all matching messages up to ``limit`` (0: no limit), page by page."""
    from ekiden.runtime.control_frames import List, Rows

    left = limit or sys.maxsize
    while left > 0:
        answer = ask(List(after, min(left, _BATCH), wanted))
        assert isinstance(answer, Rows)
        yield from answer.rows
        left -= len(answer.rows)
        after = answer.next
        if not after:
            return


_LATE = {
    "import": "ekiden.commands.importing:import_queue",
    "export": "ekiden.commands.importing:export_queue",
    "recover": "ekiden.commands.recovering:recover",
}


@click.group(cls=LateGroup, late=_LATE)
def queue() -> None:
    """Look at the queue and change what is in it."""


@queue.command("list")
@filters
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=None,
    help=f"At most this many messages; 0: all. {_PAGE} unless --json is given.",
)
@click.option(
    "--after", type=ID, default=0, metavar="ID", help="Only messages with a higher number (for the next page)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message.")
@click.pass_obj
def list_messages(home: Path, /, limit: int | None, after: int, as_json: bool, **options: Any) -> int:
    """List messages, oldest first."""
    from ekiden.commands.books import books

    if limit is None:
        # A program that reads this would take a page for all there is.
        limit = 0 if as_json else _PAGE
    count = 0
    last = after
    with books(home) as ask:
        for row in _matching(ask, _filter(options), limit, after):
            count += 1
            if as_json:
                click.echo(row)
                continue
            last = _print(json.loads(row))
    if not as_json and limit and count == limit:
        click.echo(f"-- more: ekiden queue list --after {last}")
    return 0


def _print(message: dict[str, Any]) -> int:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message["birth"]))
    held = "  (on hold)" if message["held"] else ""
    click.echo(plain(f"{message['id']}  {when}  {message['bytes']} bytes  <{message['sender']}>{held}"))
    if message["damaged"]:
        click.echo(plain(f"    damaged, and set aside: {message['damaged']}"))
    for recipient in message["recipients"]:
        click.echo(plain(f"    {recipient['recipient']}  via {recipient['destination']}{_next(recipient)}"))
        if recipient["last"]:
            click.echo(plain(f"      {' '.join(recipient['last'].split())}"))
    return int(message["id"])


def _next(recipient: dict[str, Any]) -> str:
    if recipient["due"] is None or not recipient["attempts"]:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recipient["due"]))
    return f"  {recipient['attempts']} attempts, next {when}"


@queue.command()
@click.argument("message", type=ID)
@click.option("--content", is_flag=True, help="Print the message itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(home: Path, message: int, content: bool, as_json: bool) -> int:
    """Show one message (exit code 1 if it is not in the queue)."""
    from ekiden.commands.books import books
    from ekiden.runtime.control_frames import Rows, Show

    with books(home) as ask:
        answer = ask(Show(message, _SHOWN if content else 0))
    assert isinstance(answer, Rows)
    if not answer.rows:
        click.echo(f"message {message} is not in the queue", err=True)
        return 1
    if as_json:
        click.echo(answer.rows[0])
    elif not content:
        _print(json.loads(answer.rows[0]))
    if content:
        sys.stdout.buffer.write(answer.rows[1].replace(b"\r\n", b"\n"))
        if json.loads(answer.rows[0])["bytes"] > _SHOWN:
            click.echo(f"ekiden: the first {_SHOWN} octets; the message is longer", err=True)
    return 0


def _flush_all(home: Path, as_json: bool) -> int:
    """Try everything that is not on hold now: a bounded number of messages at a time."""
    from ekiden.runtime.control_frames import Done, Flush

    count = after = 0
    with _asking(home) as ask:
        while True:
            answer = ask(Flush(after))
            assert isinstance(answer, Done)
            count, after = count + answer.count, answer.next
            if not after:
                break
    click.echo(json.dumps({"action": "flush", "messages": count}) if as_json else _counted(count, "flushed"))
    if answer.error:
        raise TryAgain(answer.error)
    return 0


def _counted(count: int, done: str) -> str:
    return f"1 message {done}" if count == 1 else f"{count} messages {done}"


def _act(home: Path, action: str, messages: tuple[int, ...], wanted: dict[str, Any]) -> _Outcome:
    """Do it to these messages, or if there are none to those that match."""
    from ekiden.runtime.control_frames import Act, Acted

    outcome = _Outcome()
    with _asking(home) as ask:
        chosen = list(messages) or [json.loads(row)["id"] for row in _matching(ask, _filter(wanted), 0)]
        for start in range(0, len(chosen), _BATCH):
            answer = ask(Act(action, chosen[start : start + _BATCH]))
            assert isinstance(answer, Acted)
            outcome.add(answer)
    if not outcome.error:
        # What a filter chose and is gone since has found its end without us.
        outcome.missing = sorted({*messages} - {*outcome.done, *outcome.busy, *outcome.damaged})
    return outcome


@dataclass
class _Outcome:
    """What came of an action, by messages."""

    done: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    error: str = ""

    def add(self, answer: Acted) -> None:
        """Another page of it."""
        self.done += answer.done
        self.busy += answer.busy
        self.damaged += answer.damaged
        self.error = self.error or answer.error

    def tell(self, action: str, done: str, as_json: bool) -> int:
        """Print it; the exit code."""
        from ekiden.queue.store import REMEDY

        damaged = f"damaged; {REMEDY}"
        if as_json:
            for number in self.done:
                click.echo(json.dumps({"id": number, "action": action, "done": True}))
            for numbers, error in ((self.busy, _BUSY), (self.missing, _NOTHING), (self.damaged, damaged)):
                for number in numbers:
                    click.echo(json.dumps({"id": number, "action": action, "done": False, "error": error}))
        else:
            click.echo(_counted(len(self.done), done))
            for number in self.missing:
                click.echo(f"message {number} is {_NOTHING}", err=True)
            for number in self.damaged:
                click.echo(f"message {number} is {damaged}", err=True)
        if self.error or self.busy:
            raise TryAgain(self.error or f"{len(self.busy)} {_BUSY}, try again")
        return 1 if self.missing or self.damaged else 0


def _action(name: str, done: str, help: str) -> None:
    @queue.command(name, help=help)
    @click.argument("messages", type=ID, nargs=-1)
    @filters
    @click.option("--all", "everything", is_flag=True, help="All messages; needed when nothing else says which.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object per message.")
    @click.pass_obj
    def act(home: Path, /, messages: tuple[int, ...], everything: bool, as_json: bool, **options: Any) -> int:
        filtered = any(value is not None for value in options.values())
        if sum((bool(messages), filtered, everything)) > 1:
            raise click.UsageError("say which messages in one way: numbers, filters, or --all")
        if name == "flush" and not messages and not filtered:
            return _flush_all(home, as_json)
        if not messages and not everything and not filtered:
            raise click.UsageError("say which messages: numbers, filters such as --sender, or --all")
        return _act(home, name, messages, options).tell(name, done, as_json)


for _name, _done, _help in (
    ("flush", "flushed", "Try messages that are not on hold now; all if nothing says which."),
    ("hold", "held", "Keep messages from being attempted until they are released."),
    ("release", "released", "Let messages on hold go; they are tried at once."),
    ("delete", "deleted", "Remove messages without telling anybody."),
    ("requeue", "requeued", "Route recipients anew, after settings have changed, and try at once."),
    ("bounce", "bounced", "Return messages to their senders now."),
):
    _action(_name, _done, _help)

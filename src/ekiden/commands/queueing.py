"""queue list, show, flush, hold, release, delete, requeue, bounce."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiden.commands.late import LateGroup

if TYPE_CHECKING:
    from ekiden.queue.inspect import Filter
    from ekiden.runtime.books import Ask
    from ekiden.runtime.control import Asking

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BATCH = 200
_ID = click.IntRange(0, (1 << 62) - 1)
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
        click.option("--sender", default="", metavar="PATTERN", help="Envelope sender (shell pattern)."),
        click.option("--recipient", default="", metavar="PATTERN", help="A recipient still to be delivered."),
        click.option("--destination", default="", metavar="PATTERN", help="Next hop, as `queue show` has it."),
        click.option("--older", type=Age(), default=0, help="At least this old: 90, 15m, 2h, 7d."),
        click.option("--younger", type=Age(), default=0, help="At most this old."),
        click.option("--held/--not-held", default=None, help="Only messages on hold, or only others."),
    ):
        command = option(command)
    return command


def _filter(options: dict[str, Any]) -> Filter:
    from ekiden.queue.inspect import Filter

    return Filter(**options)


def _asking(home: Path) -> Asking:
    from ekiden.runtime.control import Asking

    try:
        return Asking(home)
    except OSError:
        raise click.ClickException(
            f"the queue in {home} does not answer; start it with: ekiden --home {home} start"
        ) from None


def _matching(ask: Ask, wanted: Filter, limit: int, after: int = 0) -> Iterator[bytes]:
    """Rows of all matching messages up to ``limit`` (0: no limit), page by page."""
    from ekiden.runtime.administration import List, Rows

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
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most this many messages; 0: all."
)
@click.option(
    "--after", type=_ID, default=0, metavar="ID", help="Only messages with a higher number (for the next page)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message.")
@click.pass_obj
def list_messages(home: Path, /, limit: int, after: int, as_json: bool, **options: Any) -> int:
    """List messages, oldest first."""
    from ekiden.commands.books import books

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
    click.echo(f"{message['id']}  {when}  {message['bytes']} bytes  <{message['sender']}>{held}")
    for recipient in message["recipients"]:
        click.echo(f"    {recipient['recipient']}  via {recipient['destination']}{_next(recipient)}")
        if recipient["last"]:
            click.echo(f"      {' '.join(recipient['last'].split())}")
    return int(message["id"])


def _next(recipient: dict[str, Any]) -> str:
    if recipient["due"] is None or not recipient["attempts"]:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recipient["due"]))
    return f"  {recipient['attempts']} attempts, next {when}"


@queue.command()
@click.argument("message", type=_ID)
@click.option("--content", is_flag=True, help="Print the message itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(home: Path, message: int, content: bool, as_json: bool) -> int:
    """Show one message (exit code 1 if it is not in the queue)."""
    from ekiden.commands.books import books
    from ekiden.runtime.administration import Rows, Show

    with books(home) as ask:
        answer = ask(Show(message, 1 << 24 if content else 0))
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
    return 0


@queue.command()
@click.pass_obj
def flush(home: Path) -> int:
    """Try everything that is not on hold now."""
    from ekiden.runtime.administration import Done, Flush

    count = after = 0
    with _asking(home) as asking:
        while True:
            answer = asking.ask(Flush(after))
            assert isinstance(answer, Done)
            count, after = count + answer.count, answer.next
            if not after:
                return _tell("flushed", count, [answer.error] if answer.error else [])


def _tell(done: str, count: int, errors: list[str]) -> int:
    click.echo(f"{count} messages {done}" if count != 1 else f"1 message {done}")
    for error in errors:
        click.echo(f"ekiden: {error}", err=True)
    return 1 if errors else 0


def _action(name: str, done: str, help: str) -> None:
    @queue.command(name, help=help)
    @click.argument("messages", type=_ID, nargs=-1)
    @filters
    @click.option("--all", "everything", is_flag=True, help="All messages; needed when nothing else says which.")
    @click.pass_obj
    def act(home: Path, /, messages: tuple[int, ...], everything: bool, **options: Any) -> int:
        from ekiden.runtime.administration import Act, Done

        filtered = any(options.values()) or options["held"] is not None
        if sum((bool(messages), filtered, everything)) > 1:
            raise click.UsageError("say which messages in one way: numbers, filters, or --all")
        if not messages and not everything and not filtered:
            raise click.UsageError("say which messages: numbers, filters such as --sender, or --all")
        count, errors = 0, []
        with _asking(home) as asking:
            chosen = list(messages) or [json.loads(row)["id"] for row in _matching(asking.ask, _filter(options), 0)]
            for start in range(0, len(chosen), _BATCH):
                answer = asking.ask(Act(name, chosen[start : start + _BATCH]))
                assert isinstance(answer, Done)
                count += answer.count
                if answer.error:
                    errors.append(answer.error)
        return _tell(done, count, errors) or (1 if messages and count < len(messages) else 0)


for _name, _done, _help in (
    ("hold", "held", "Keep messages from being attempted until they are released."),
    ("release", "released", "Let messages on hold go; they are tried at once."),
    ("delete", "deleted", "Remove messages without telling anybody."),
    ("requeue", "requeued", "Route recipients anew, after settings have changed, and try at once."),
    ("bounce", "bounced", "Return messages to their senders now."),
):
    _action(_name, _done, _help)

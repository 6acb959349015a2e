"""audit: does every accepted recipient have exactly one end, and is every content what came in?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import click

from ekiden.commands.books import Ask, books
from ekiden.queue.audit import Audited, SpoolFile, check_content
from ekiden.runtime.administration import Audit, Findings, Rows, Show
from ekiden.runtime.logreader import events

_PIECE = 1 << 20
_MISSING = "is in the log, and neither in the queue nor in the ledger: no end"


@dataclass
class Total:
    """What was looked at, and what is wrong with which message."""

    queued: int = 0
    ended: int = 0
    recipients: int = 0
    contents: int = 0
    logged: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Reach:
    """Which messages queue and ledger know, and how far back the ledger goes."""

    known: set[int] = field(default_factory=set)
    oldest: int = 0
    since: float = 0.0

    def add(self, found: Audited) -> None:
        """The next page."""
        self.known.update(found.known)
        if found.oldest:
            self.since = min(self.since or found.since, found.since)
            self.oldest = self.oldest or found.oldest

    def misses(self, message: int, last: float) -> bool:
        """Whether a message of which the log last told at that time should be known, and is not.

        What is below the first end in the ledger has ended too, and been forgotten; and before any end there may have
        been no ledger.
        """
        return message not in self.known and 0 < self.oldest < message and last >= self.since


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def audit(home: Path, as_json: bool) -> int:
    """Hold the queue against its ledger and the log; exit code 1 if anything is wrong.

    Needs no stop: what runs goes on.
    """
    total = Total()
    # What is in the log is in the books; so the log is read first.
    try:
        logged = _logged(home)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    with books(home) as ask:
        reach = _look(home, ask, total)
    total.logged = len(logged)
    missing = [message for message, last in logged.items() if reach.misses(message, last)]
    total.problems += [(message, _MISSING) for message in missing]
    total.problems.sort()
    if as_json:
        click.echo(json.dumps({**vars(total), "problems": [list(one) for one in total.problems]}))
        return 1 if total.problems else 0
    for message, problem in total.problems:
        click.echo(f"message {message} {problem}")
    click.echo(
        f"{total.queued} messages in the queue, {total.ended} ended, {total.recipients} recipients;"
        f" {total.contents} contents and {total.logged} log entries compared: {len(total.problems)} problems"
    )
    return 1 if total.problems else 0


def _look(home: Path, ask: Ask, total: Total) -> Reach:
    """All pages."""
    after = 0
    reach = Reach()
    while True:
        answer = ask(Audit(after))
        assert isinstance(answer, Findings)
        found = answer.found
        total.queued += found.queued
        total.ended += found.ended
        total.recipients += found.recipients
        total.contents += found.queued
        total.problems += found.problems
        reach.add(found)
        for file in found.files:
            total.problems += [(file.message, problem) for problem in _look_at_file(home, ask, file)]
        after = found.next
        if not after:
            return reach


def _look_at_file(home: Path, ask: Ask, file: SpoolFile) -> Iterator[str]:
    """A large content: read here, so that the queue need not wait for it."""
    size = checksum = 0
    try:
        with (home / "queue" / "spool" / file.name).open("rb") as content:
            while piece := content.read(_PIECE):
                size += len(piece)
                checksum = crc32(piece, checksum)
    except OSError as error:
        shown = ask(Show(file.message))
        assert isinstance(shown, Rows)
        if shown.rows:
            yield f"has no content: queue/spool/{file.name}: {error.strerror}"
        return
    yield from check_content(file.size, file.checksum, size, checksum)


def _logged(home: Path) -> dict[int, float]:
    """Messages that the log says came in with somebody to go to, and when it last told of each.

    A message for nobody ends without an attempt.
    """
    directory = home / "log"
    if not directory.is_dir() or not os.access(directory, os.R_OK):
        return {}
    last: dict[int, float] = {}
    seen: dict[str, set[int]] = {"new": set(), "starting": set(), "end": set()}
    for event in events(directory):
        if "message" in event:
            last[event["message"]] = event["time"]
            seen.get(event["event"], set()).add(event["message"])
    return {message: last[message] for message in seen["starting"] | (seen["new"] - seen["end"])}

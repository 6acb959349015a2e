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
from ekiden.queue.audit import SpoolFile, check_content
from ekiden.runtime.administration import Audit, Findings, Rows, Show
from ekiden.runtime.logreader import events

_PIECE = 1 << 20


@dataclass
class Total:
    """What was looked at, and what is wrong with which message."""

    queued: int = 0
    ended: int = 0
    recipients: int = 0
    contents: int = 0
    logged: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)


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
        known = _look(home, ask, total)
        _missing(ask, total, logged, known)
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


def _look(home: Path, ask: Ask, total: Total) -> tuple[int, set[int]]:
    """All pages. Returns the id that the ledger reaches back to (0: none), and the ids of messages that are known."""
    after = oldest = 0
    known: set[int] = set()
    while True:
        answer = ask(Audit(after))
        assert isinstance(answer, Findings)
        found = answer.found
        total.queued += found.queued
        total.ended += found.ended
        total.recipients += found.recipients
        total.contents += found.queued
        total.problems += found.problems
        known.update(found.known)
        oldest = oldest or found.oldest
        for file in found.files:
            total.problems += [(file.message, problem) for problem in _look_at_file(home, ask, file)]
        after = found.next
        if not after:
            return oldest, known


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


def _logged(home: Path) -> set[int]:
    """Messages that the log says came in with somebody to go to: a message for nobody ends without an attempt."""
    directory = home / "log"
    if not directory.is_dir() or not os.access(directory, os.R_OK):
        return set()
    seen: dict[str, set[int]] = {"new": set(), "starting": set(), "end": set()}
    for event in events(directory):
        if event["event"] in seen:
            seen[event["event"]].add(event["message"])
    return seen["starting"] | (seen["new"] - seen["end"])


def _missing(ask: Ask, total: Total, logged: set[int], known: tuple[int, set[int]]) -> None:
    """Messages that were attempted and of which nobody knows what became of them."""
    oldest, ids = known
    total.logged = len(logged)
    for message in sorted(logged - ids):
        # What is below the first end in the ledger has ended too, and been forgotten.
        if oldest and message > oldest:
            total.problems.append((message, "is in the log, and neither in the queue nor in the ledger: no end"))

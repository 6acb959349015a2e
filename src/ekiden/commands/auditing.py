"""audit: does every accepted recipient have exactly one end, and is every content what came in?"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import click

from ekiden.commands.books import Ask, books
from ekiden.queue.audit import LAST, Audited, SpoolFile, check_content
from ekiden.queue.store import Reach
from ekiden.runtime.control_frames import Audit, Findings, Rows, Show
from ekiden.runtime.logreader import events

_PIECE = 1 << 20
_MISSING = "is in the log, and neither in the queue nor in the ledger: no end"


@dataclass
class Total:
    """What was looked at, and what is wrong with which message; ``log``: why not all of the log could be read."""

    queued: int = 0
    ended: int = 0
    recipients: int = 0
    contents: int = 0
    logged: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    log: str = ""


@dataclass
class Logged:
    """Messages of which the log tells, by when it last did, that neither queue nor ledger has been found to know."""

    left: dict[int, float]
    reach: Reach = field(default_factory=Reach)

    def add(self, found: Audited) -> None:
        """The next page."""
        for number in found.known:
            self.left.pop(number, None)
        # Meanwhile the ledger may have forgotten more: what it did last counts.
        self.reach = found.reach

    def missing(self) -> list[int]:
        """Those that should be known: what the ledger must have, and what this queue has given no number to."""
        reach = self.reach
        return [
            number
            for number, last in self.left.items()
            if number > reach.given or (number > reach.after and last >= reach.since)
        ]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def audit(home: Path, as_json: bool) -> int:
    """Hold the queue against its ledger and the log; exit code 1 if anything is wrong.

    Needs no stop: what runs goes on.
    """
    total = Total()
    # What is in the log is in the books; so the log is read first.
    logged = _logged(home, total)
    total.logged = len(logged)
    with books(home) as ask:
        left = _look(home, ask, total, Logged(logged))
    total.problems += [(message, _MISSING) for message in left.missing()]
    total.problems.sort()
    if as_json:
        click.echo(json.dumps({**vars(total), "problems": [list(one) for one in total.problems]}))
        return 1 if total.problems or total.log else 0
    if total.log:
        click.echo(f"the log cannot be read to its end: {total.log}")
    for message, problem in total.problems:
        click.echo(f"message {message} {problem}")
    click.echo(
        f"{total.queued} messages in the queue, {total.ended} ended, {total.recipients} recipients;"
        f" {total.contents} contents and {total.logged} log entries compared: {len(total.problems)} problems"
    )
    return 1 if total.problems or total.log else 0


def _look(home: Path, ask: Ask, total: Total, logged: Logged) -> Logged:
    """All pages."""
    after = 0
    while True:
        answer = ask(Audit(after))
        assert isinstance(answer, Findings)
        found = answer.found
        total.queued += found.queued
        total.ended += found.ended
        total.recipients += found.recipients
        total.contents += found.queued
        total.problems += found.problems
        logged.add(found)
        for file in found.files:
            total.problems += [(file.message, problem) for problem in _look_at_file(home, ask, file)]
        after = found.next
        if not after:
            return logged


def _look_at_file(home: Path, ask: Ask, file: SpoolFile) -> Iterator[str]:
    """A large content: read here, so that the queue need not wait for it."""
    size = checksum = 0
    path = home / "queue" / "spool" / file.name
    try:
        # Not to wait for ever if it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as content:
            yield from _look_at_owner(home, file.name, os.fstat(descriptor))
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


def _look_at_owner(home: Path, name: str, status: os.stat_result) -> Iterator[str]:
    """Whether the queue may read a file that whoever asks can read."""
    if status.st_uid != (home / "queue").stat().st_uid or not status.st_mode & stat.S_IRUSR:
        yield f"has a content that the queue may not read: queue/spool/{name}: see its owner and mode"


def _logged(home: Path, total: Total) -> dict[int, float]:
    """Messages that the log says came in with somebody to go to, and when it last told of each.

    A message for nobody ends without an attempt. Where the log cannot be read on, ``total`` says why.
    """
    directory = home / "log"
    if not directory.is_dir() or not os.access(directory, os.R_OK):
        return {}
    new: dict[int, float] = {}
    tried: dict[int, float] = {}
    try:
        for event in events(directory):
            message = event.get("message", 0)
            if not 0 < message <= LAST:
                continue
            if message in tried or event["event"] == "starting":
                tried[message] = event["time"]
                new.pop(message, None)
            elif event["event"] == "end":
                new.pop(message, None)
            elif message in new or event["event"] == "new":
                new[message] = event["time"]
    except OSError as error:
        total.log = f"{error.filename}: {error.strerror}"
        # How those ended that were not tried would stand in what is left.
        return tried
    return new | tried

"""Load by Postfix's smtp-source, and the time until all of it has arrived."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.peers.processes import program

from bench.contenders import RELAYED

_POLL = 0.005
_SELDOM = 50
"""How many times as long as counting takes is waited before it is done again: large directories take time to read."""
_QUIET = 0.5
_STALLED = 60.0


@dataclass(frozen=True)
class Load:
    """What smtp-source sends. ``size`` is the body's in octets; ``reuse`` keeps sessions open between messages."""

    messages: int = 5000
    sessions: int = 20
    size: int = 4096
    reuse: bool = False
    recipients: int = 1
    to: str = RELAYED

    def scaled(self, factor: float) -> Load:
        """The same with more or fewer messages."""
        return replace(self, messages=max(self.sessions, round(self.messages * factor)))

    def command(self, port: int) -> list[str]:
        """The command line."""
        words = [program("smtp-source"), "-s", str(self.sessions), "-m", str(self.messages), "-l", str(self.size)]
        words += ["-M", "client.example", "-f", "sender@client.example", "-t", self.to, "-C", "100"]
        words += ["-d"] if self.reuse else []
        words += ["-r", str(self.recipients)] if self.recipients > 1 else []
        return [*words, f"127.0.0.1:{port}"]


@dataclass(frozen=True)
class Times:
    """Seconds from the first connection: until the last message was accepted, and until the last one arrived."""

    accepted: float
    arrived: float


class LoadFailed(Exception):
    """The contender refused something or lost something: there is no rate to report."""


def send(port: int, load: Load) -> float:
    """Send it all; seconds until the last message was accepted."""
    start = time.perf_counter()
    finished = subprocess.run(load.command(port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    taken = time.perf_counter() - start
    if finished.returncode != 0 or finished.stderr:
        raise LoadFailed(f"smtp-source: {finished.stderr.decode(errors='replace').strip()[:300]}")
    return taken


def send_and_wait(port: int, load: Load, arrived: Callable[[], int]) -> Times:
    """Send it all and wait until ``arrived`` has grown by it and then rests.

    The last growth counts: a contender that splits a message's recipients delivers more messages than were sent, and
    has not finished when the count first suffices.
    """
    before = arrived()
    start = time.perf_counter()
    source = subprocess.Popen(load.command(port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    accepted, pause = 0.0, _POLL
    count, grown = before, start
    while count - before < load.messages or time.perf_counter() - grown < _QUIET:
        time.sleep(pause)
        now = time.perf_counter()
        if not accepted and source.poll() is not None:
            accepted = now - start
        current = arrived()
        pause = max(_POLL, (time.perf_counter() - now) * _SELDOM)
        if current != count:
            count, grown = current, now
        if now - grown > _STALLED:
            source.kill()
            raise LoadFailed(f"{count - before} of {load.messages} messages arrived, then none for {_STALLED:g} s")
    _, errors = source.communicate(timeout=30)
    if source.returncode != 0 or errors:
        raise LoadFailed(f"smtp-source: {errors.decode(errors='replace').strip()[:300]}")
    return Times(accepted or grown - start, grown - start)


def set_aside(maildir: Path) -> None:
    """Begin with an empty new/, so that no round finds more than the one before.

    What was there is kept: file systems do not give a file that was removed a moment ago to the next, and look for
    another for longer than the delivery takes.
    """
    new = maildir / "new"
    owner = new.stat()
    new.rename(maildir.with_name(f"{maildir.name}-{time.monotonic_ns()}"))
    new.mkdir(owner.st_mode & 0o777)
    os.chown(new, owner.st_uid, owner.st_gid)


def files_in(maildir: Path) -> Callable[[], int]:
    """Counts a Maildir's new messages."""
    return lambda: len(os.listdir(maildir / "new"))

"""``python -m bench.starts``: what it costs to start each classic program that is started for every message.

Each does its ordinary work once, beside a running ekiden. CPU time of the process and what it starts, taken in turn
with the interpreter's own start, which nothing can save, and shown over it: on a busy machine the clock says little.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from tests.peers.ekiden import Ekiden
from tests.peers.processes import short_directory

from ekiden.installation.scripts import write_bin

_MESSAGE = b"to: jiro\n\nhello\n"
_DELIVERY = {
    "SENDER": "s@ekiden.example",
    "NEWSENDER": "s@ekiden.example",
    "USER": "jiro",
    "LOCAL": "jiro",
    "HOST": "ekiden.example",
    "RECIPIENT": "jiro@ekiden.example",
    "DTLINE": "Delivered-To: x@ekiden.example\n",
    "UFLINE": "From s@ekiden.example Thu Jan  1 00:00:00 1970\n",
    "RPLINE": "Return-Path: <s@ekiden.example>\n",
}
"""What qmail-local tells a program (qmail-command(8))."""


class Work(NamedTuple):
    """A command line, and what is on its descriptor 0; ``envelope`` is for descriptor 1."""

    argv: list[str]
    given: bytes = _MESSAGE
    envelope: bytes = b""


def works(ekiden: Ekiden, maildir: Path) -> Iterator[Work]:
    """Something to do for each program."""
    yield Work(["qmail-smtpd"], b"EHLO me\r\nQUIT\r\n")
    yield Work(["qmail-queue"], envelope=b"Fs@ekiden.example\0Tjiro@ekiden.example\0\0")
    yield Work(["qmail-inject"])
    yield Work(["sendmail", "-t"])
    yield Work(["qmail-remote", "self.example", "s@ekiden.example", "jiro@ekiden.example"])
    yield Work(["qmail-local", "jiro", str(maildir.parent), "jiro", "", "", "x.example", "s@x.example", "./Maildir/"])
    yield Work(["forward", "jiro@ekiden.example"])
    yield Work(["condredirect", "jiro@ekiden.example", "true"])
    yield Work(["bouncesaying", "no", "false"])
    yield Work(["except", "false"])
    yield Work(["preline", "true"])
    yield Work(["qreceipt", "nobody@ekiden.example"])
    yield Work(["qbiff"])
    yield Work(["tcp-env", "true"])
    yield Work(["qmail-popup", "ekiden.example", "true"], b"QUIT\r\n")
    yield Work(["qmail-pop3d", "Maildir"], b"QUIT\r\n")
    yield Work(["maildirmake"])


def cpu_milliseconds(work: Work, directory: Path, environment: dict[str, str]) -> float:
    """Run it in a directory of its own; CPU time of its processes."""
    given, told = directory / "given", directory / "told"
    given.write_bytes(work.given)
    told.write_bytes(work.envelope)
    with open(given, "rb") as message, open(told, "rb" if work.envelope else "wb") as output:
        process = subprocess.Popen(
            work.argv, stdin=message, stdout=output, stderr=subprocess.DEVNULL, cwd=directory, env=environment
        )
    _pid, _status, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return (usage.ru_utime + usage.ru_stime) * 1000


def measure(count: int) -> tuple[float, dict[str, float]]:
    """Medians: the interpreter's own, and each program's over it."""
    taken: dict[str, list[float]] = {}
    own: list[float] = []
    with short_directory("starts") as place:
        ekiden = Ekiden(place)
        ekiden.configure()
        ekiden.routes(f"self.example:[127.0.0.1]:{ekiden.port}")
        maildir = ekiden.make_inbox("jiro")
        write_bin(ekiden.home)
        environment = {**os.environ, **_DELIVERY}
        ekiden.start()
        try:
            for _ in range(count):
                own.append(cpu_milliseconds(Work([sys.executable, "-c", "pass"]), maildir.parent, environment))
                for work in works(ekiden, maildir):
                    run = work._replace(argv=[str(ekiden.home / "bin" / work.argv[0]), *work.argv[1:]])
                    taken.setdefault(work.argv[0], []).append(cpu_milliseconds(run, maildir.parent, environment))
        finally:
            ekiden.stop()
    base = statistics.median(own)
    return base, {name: statistics.median(times) - base for name, times in taken.items()}


@click.command()
@click.option("--count", default=30, show_default=True, help="How often each is started.")
def main(count: int) -> None:
    """Print the table that docs/programs.md has."""
    base, costs = measure(count)
    print(f"The interpreter's own start: {base:.1f} ms of CPU.\n\n| program | ms of CPU over that |\n|---|---|")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.1f} |")


if __name__ == "__main__":
    main()

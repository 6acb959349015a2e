"""``python -m bench.inject``: how long ``echo to: jiro | qmail-inject`` takes, and the way into the mailbox.

The message is committed before qmail-inject ends. The interpreter's own start, which nothing can save, is measured in
turn with it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from tests.peers.ekiden import Ekiden
from tests.peers.processes import short_directory

from ekiden.installation.scripts import write_bin

_DEADLINE = 10


def _milliseconds(command: Sequence[str | Path], message: bytes = b"") -> float:
    start = time.perf_counter()
    subprocess.run(command, input=message, check=True)
    return (time.perf_counter() - start) * 1000


def _until_arrived(new: Path, before: int) -> float:
    """Milliseconds until there is one message more; TimeoutError after ten seconds."""
    start = time.perf_counter()
    while len(os.listdir(new)) == before:
        if time.perf_counter() - start > _DEADLINE:
            raise TimeoutError("the message does not arrive")
        time.sleep(0.0002)
    return (time.perf_counter() - start) * 1000


def _line(title: str, taken: Sequence[float]) -> str:
    ordered = sorted(taken)
    return f"{title}: {statistics.median(ordered):.1f} ms ({ordered[0]:.1f}-{ordered[-1]:.1f})"


@click.command()
@click.option("--count", default=50, show_default=True, help="Messages.")
def main(count: int) -> None:
    """Inject messages one by one into a running ekiden; medians, in brackets the range."""
    interpreter, accepted, arrived = [], [], []
    with short_directory("inject") as place:
        ekiden = Ekiden(place)
        ekiden.configure()
        new = ekiden.make_inbox("jiro") / "new"
        write_bin(ekiden.home)
        ekiden.start()
        try:
            for number in range(count):
                interpreter.append(_milliseconds([sys.executable, "-c", "pass"]))
                accepted.append(_milliseconds([ekiden.home / "bin" / "qmail-inject"], b"to: jiro\n"))
                arrived.append(_until_arrived(new, number))
        finally:
            ekiden.stop()
    over = [took - start for took, start in zip(accepted, interpreter, strict=True)]
    print(_line("the interpreter's own start", interpreter))
    print(_line("qmail-inject, commit included, over that", over))
    print(_line("in the mailbox after that", arrived))


if __name__ == "__main__":
    main()

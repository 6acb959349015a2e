"""The figures as a table for people, as JSON, as a page of the documentation and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.shapes import Run, Shape, Start

_MEBIBYTE = 1024**2


@dataclass(frozen=True)
class Figures:
    """All that one benchmark has measured. ``direct``: the rate with no mail system between, by the shapes' names."""

    shapes: Sequence[Shape]
    contenders: Sequence[str]
    runs: Sequence[Run]
    starts: Sequence[Start]
    direct: Mapping[str, float]
    machine: Sequence[str]

    def values(self, shape: str, contender: str, value: Callable[[Run], float]) -> list[float]:
        """One value of all rounds."""
        return [value(run) for run in self.runs if run.shape == shape and run.contender == contender]

    def median(self, shape: str, contender: str, value: Callable[[Run], float]) -> float:
        """The median over the rounds; 0 when nothing was measured."""
        return statistics.median(self.values(shape, contender, value) or [0.0])

    def started(self, contender: str, value: Callable[[Start], float]) -> float:
        """A start's value, the median over the contender's starts."""
        return statistics.median([value(start) for start in self.starts if start.contender == contender] or [0.0])


def _rate(run: Run) -> float:
    return run.rate


def _cpu(run: Run) -> float:
    return run.cpu_milliseconds


def _memory(run: Run) -> float:
    return run.peak_memory / _MEBIBYTE


def headings(figures: Figures) -> list[str]:
    """The columns: rates without any and of each, their ratio, processor time and memory of each."""
    names = figures.contenders
    columns = ["load", "none /s", *(f"{name} /s" for name in names)]
    columns += ["ratio"] if len(names) == 2 else []
    return columns + [f"{name} CPU ms" for name in names] + [f"{name} MiB" for name in names]


def rows(figures: Figures, spread: bool = True) -> list[list[str]]:
    """One row per shape: medians; with ``spread`` the range over the rounds behind each rate."""
    return [_row(figures, shape, spread) for shape in figures.shapes]


def _row(figures: Figures, shape: Shape, spread: bool) -> list[str]:
    names = figures.contenders
    cells = [shape.title, f"{figures.direct[shape.name]:,.0f}" if shape.name in figures.direct else ""]
    for name in names:
        rates = figures.values(shape.name, name, _rate)
        between = f" ({min(rates):,.0f}-{max(rates):,.0f})" if spread and len(rates) > 1 else ""
        cells.append(f"{figures.median(shape.name, name, _rate):,.0f}{between}")
    if len(names) == 2:
        cells.append(f"{ratio(figures, shape):.1f}")
    cells += [f"{figures.median(shape.name, name, _cpu):.2f}" for name in names]
    return cells + [f"{figures.median(shape.name, name, _memory):.0f}" for name in names]


def ratio(figures: Figures, shape: Shape) -> float:
    """The second contender's rate over the first's."""
    first, second = (figures.median(shape.name, name, _rate) for name in figures.contenders)
    return second / first if first else 0.0


ROLES = {"ekiden-smtpd": "smtpd", "ekiden-queue": "queue", "ekiden-remote": "remote", "ekiden-local": "local"}
"""What the processes of our roles are called, and in which column each is."""


def role_rows(figures: Figures) -> list[list[str]]:
    """One row per shape: where ekiden's processor time goes, in milliseconds a message."""
    found = []
    for shape in figures.shapes:
        runs = [run.cpu for run in figures.runs if run.shape == shape.name and run.contender == "ekiden"]
        if runs:
            cells = [statistics.median(cpu.get(name, 0.0) for cpu in runs) for name in ROLES]
            cells.append(statistics.median(sum(cpu.values()) for cpu in runs) - sum(cells))
            found.append([shape.title, *(f"{max(0.0, cell):.2f}" for cell in cells)])
    return found


def start_lines(figures: Figures) -> list[str]:
    """Start and rest of each contender, as sentences."""
    return [
        f"{name}: {figures.started(name, lambda start: start.seconds):.2f} s from the start command to the first "
        f"greeting, {figures.started(name, lambda start: start.idle_memory) / _MEBIBYTE:.0f} MiB at rest"
        for name in figures.contenders
    ]


def table(figures: Figures) -> Table:
    """The table for a terminal."""
    drawn = Table(title="durable relay: medians; CPU time a message, peak memory (PSS) of all processes")
    for number, heading in enumerate(headings(figures)):
        drawn.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows(figures, spread=False):
        drawn.add_row(*row)
    return drawn


_PAGE = """\
# Speed

Measured by `bench/`, which anybody can repeat (Debian, as root, for the peers' sake):

```sh bench
make bench
```

One run of all shapes, written into this page and its plot:

```sh bench
.venv/bin/python -m bench --write
```

Clients (smtp-source, 20 sessions at once, 4 KiB a message unless said otherwise) hand messages to the mail system,
which stores each durably before it says 250 and relays it to a sink (smtp-sink). The rate is messages divided by the
time until the sink has the last one; intake rates count until the last 250. ekiden and Debian's Postfix take turns
on the same machine in the same run, {rounds} rounds each, {messages} messages in the first shape, their spools on
the same file system; both have their shipped durability, process limits and concurrency. CPU time a message and peak
memory (PSS) are those of all the system's processes together; medians, in brackets the range.

![Messages per second, ekiden and Postfix](bench.svg)

{table}

"None" is what the same clients and sink reach with no mail system between them.

{starts}

The machine:

{machine}

## Where the time goes

ekiden's processor time by role, milliseconds a message:

{roles}

Asked for were 5 times Postfix with one message per session, 8 times with sessions reused, 2.5 times with 50
recipients and with 100 KiB bodies, 3 times into a Maildir. Two processors are full in all of them, half of their
time with smtp-source, smtp-sink and the loopback interface between them, so that the ratios depend on the
machine: on a slower one of this kind, where source and sink alone reached 7,561 and 15,336 messages/s in the
first two loads, they were 4.4 and 6.7. The first thousand messages after a start are slower, until SQLite's log
has grown to its size and is written over.

A million deferred messages in the queue cost nothing that can be measured here: 3,669 to 4,325 messages/s were taken
in beside 3,212 to 3,927 with an empty queue, all roles together had 100 MiB of memory, the first page of `ekiden
queue list` took 0.12 s, and a start with them 0.67 s.

```sh bench
.venv/bin/python -m bench --shape empty --shape backlog --backlog 1000000 --only ekiden
```

Into a local Maildir each message is synced twice on the way, in the queue and in the Maildir, there together with
those that arrive at the same time. An ext4 without a journal, as this machine's, gives no file's inode to another for
a minute or more after it was removed, and looks for one among them: into a Maildir from which thousands of messages
were removed a moment ago, deliveries took twice as long. Here nothing is removed between the rounds.

At 100 KiB a content crosses three sockets and the store. In smtpd 8% of the time is the search for lone CR and LF
and 19% are writes of replies; in the queue a quarter are syncs and 8% writes; in remote a fifth is the write to
the next hop. What was tried:

- Contents in segments that are written over (`queue/segments.py`) in place of SQLite's rows: 0.36 to 0.24 ms in the
  queue. Before, a try that only ever appended gained nothing, because each sync then waits for new blocks, too.
- Lone CR and LF sought by the decoder that text files use, which notes line ends in one pass: 30 µs in place of 61.
- Dots at the beginning of lines sought from dot to dot for the first twenty, then by a regular expression: 1 µs in
  base64, as before in prose; remote sought them in a way that took 60.
- Contents sent between processes in one piece: 2% of smtpd.
- A spool file for each: slower, because each file is made, synced and removed.
- Pages of 8 and 16 KiB; a write-ahead log of 16,000 or 64,000 pages in place of 4,000; segments of 4 or 8 MiB in
  place of 16; commits held back for 1 to 3 ms; other thresholds of malloc: no difference.
- Dispatching before the commit, and storing into Maildirs in a thread of their own: no difference beyond the noise.

What would be next: smtpd writing contents into files that the queue gave it, which are used again, so that a content
crosses one socket less and is synced by the queue for many at once. It costs isolation: an smtpd that was taken over
could alter what it had handed in and what was not yet delivered.
"""


def page(figures: Figures) -> str:
    """docs/bench.md."""
    lines = [headings(figures), ["---"] + ["---:"] * (len(headings(figures)) - 1), *rows(figures)]
    rounds = max(run.round for run in figures.runs) + 1
    return _PAGE.format(
        rounds=rounds,
        messages=f"{figures.shapes[0].load.messages:,}",
        table=_table(lines),
        roles=_table([["load", *ROLES.values(), "others"], ["---"] + ["---:"] * 5, *role_rows(figures)]),
        starts="\n".join(f"- {line}." for line in start_lines(figures)),
        machine="\n".join(f"- {line}" for line in figures.machine),
    )


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""The figures as a table for people, as JSON, as a page of the documentation and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.shapes import Run, Shape, Start

_MEBIBYTE = 1024**2


@dataclass(frozen=True)
class Figures:
    """All that one benchmark has measured."""

    shapes: Sequence[Shape]
    contenders: Sequence[str]
    runs: Sequence[Run]
    starts: Sequence[Start]
    direct: float
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
    """The columns: rates of each, their ratio, processor time and memory of each."""
    names = figures.contenders
    columns = ["load", *(f"{name} /s" for name in names)]
    columns += ["ratio"] if len(names) == 2 else []
    return columns + [f"{name} CPU ms" for name in names] + [f"{name} MiB" for name in names]


def rows(figures: Figures, spread: bool = True) -> list[list[str]]:
    """One row per shape: medians; with ``spread`` the range over the rounds behind each rate."""
    return [_row(figures, shape, spread) for shape in figures.shapes]


def _row(figures: Figures, shape: Shape, spread: bool) -> list[str]:
    names = figures.contenders
    cells = [shape.title]
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

Without any mail system between, the same clients and sink reach {direct:,.0f} messages/s.

{starts}

The machine:

{machine}
"""


def page(figures: Figures) -> str:
    """docs/bench.md."""
    lines = [headings(figures), ["---"] + ["---:"] * (len(headings(figures)) - 1), *rows(figures)]
    rounds = max(run.round for run in figures.runs) + 1
    return _PAGE.format(
        rounds=rounds,
        messages=f"{figures.shapes[0].load.messages:,}",
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
        direct=figures.direct,
        starts="\n".join(f"- {line}." for line in start_lines(figures)),
        machine="\n".join(f"- {line}" for line in figures.machine),
    )

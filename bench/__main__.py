"""``python -m bench``: measure, show, and with ``--write`` put the figures into docs/."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from tests.peers.processes import Unavailable

from bench import machine, report
from bench.load import LoadFailed
from bench.plot import plot
from bench.shapes import CONTENDERS, Arena, Run, Shape, Start, arena, direct_rates, shapes

DOCS = Path(__file__).resolve().parent.parent / "docs"
NAMES = [shape.name for shape in shapes(0, 0)]


@click.command()
@click.option("--shape", "wanted", multiple=True, type=click.Choice(NAMES), help="Only this load; may be repeated.")
@click.option("--only", multiple=True, type=click.Choice(list(CONTENDERS)), help="Only this mail system.")
@click.option("--rounds", default=3, show_default=True, help="How often each runs.")
@click.option("--messages", default=5000, show_default=True, help="Messages of a run, in the basic load.")
@click.option("--backlog", default=20_000, show_default=True, help="Deferred messages of the backlog load.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option("--write", is_flag=True, help="Write docs/bench.md and docs/bench.svg.")
def main(
    wanted: tuple[str, ...],
    only: tuple[str, ...],
    rounds: int,
    messages: int,
    backlog: int,
    as_json: bool,
    write: bool,
) -> None:
    """Measure ekiden beside Postfix, in turn, on this machine."""
    chosen = [shape for shape in shapes(messages, backlog) if not wanted or shape.name in wanted]
    try:
        figures = measure(chosen, list(only or CONTENDERS), rounds, quiet=as_json)
    except (LoadFailed, TimeoutError, Unavailable) as reason:
        print(f"bench: {reason}", file=sys.stderr)
        sys.exit(1)
    if as_json:
        print(json.dumps(dataclasses.asdict(figures), indent=2))
    else:
        show(figures)
    if write:
        (DOCS / "bench.md").write_text(report.page(figures))
        (DOCS / "bench.svg").write_text(plot(figures))


def measure(chosen: list[Shape], names: list[str], rounds: int, quiet: bool) -> report.Figures:
    """Run everything; each shape with contenders that are fresh."""
    runs: list[Run] = []
    starts: list[Start] = []
    versions: list[str] = []
    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("measuring", total=len(chosen) * rounds * len(names))
        direct = direct_rates(chosen)
        for shape in chosen:
            progress.update(task, description=shape.title)
            with arena(names) as ring:
                starts += ring.starts
                versions = ring.versions()
                runs += _run(ring, shape, rounds, lambda: progress.advance(task))
    return report.Figures(chosen, names, runs, starts, direct, machine.describe(versions))


def _run(ring: Arena, shape: Shape, rounds: int, advance: Callable[[], None]) -> list[Run]:
    runs = []
    for run in ring.run(shape, rounds):
        runs.append(run)
        advance()
    return runs


def show(figures: report.Figures) -> None:
    """For people."""
    console = Console()
    console.print(report.table(figures))
    for line in (*report.start_lines(figures), *figures.machine):
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()

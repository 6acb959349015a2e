"""``python -m bench.setting NAME VALUE VALUE``: what a setting costs; two ekidens in turn, otherwise the same."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import click
from tests.peers.processes import short_directory
from tests.peers.sinks import CountingSink

from bench.contenders import Contender, EkidenContender
from bench.load import LoadFailed
from bench.shapes import Arena, Run, shapes

LOADS = ("single", "reused")


def measure(name: str, values: tuple[str, str], rounds: int, messages: int) -> tuple[Arena, list[Run]]:
    """All rounds of both loads, the two in turn; the contenders are called ``NAME=VALUE``."""
    runs: list[Run] = []
    with short_directory("bench") as place:
        sink = CountingSink()
        contenders: dict[str, Contender] = {}
        try:
            for number, value in enumerate(values):
                directory = place / str(number)
                directory.mkdir()
                contender = contenders[value] = EkidenContender(directory, sink.port, {name: value})
                contender.name = f"{name}={value}"
            arena = Arena(contenders, sink)
            for shape in shapes(messages, 0):
                if shape.name in LOADS:
                    runs += arena.run(shape, rounds)
        finally:
            for contender in contenders.values():
                contender.stop()
            sink.stop()
    return arena, runs


def compared(runs: list[Run], value: Callable[[Run], float]) -> tuple[float, float, float]:
    """The medians of the first and of the second, and the median of what the first has over the second in a round.

    Neighbours in time are compared: what else the machine does changes more slowly.
    """
    first, second = (list(map(value, runs[start::2])) for start in (0, 1))
    ratios = [one / other for one, other in zip(first, second, strict=True)]
    return statistics.median(first), statistics.median(second), statistics.median(ratios)


@click.command()
@click.argument("name")
@click.argument("first")
@click.argument("second")
@click.option("--rounds", default=9, show_default=True, help="How often each load runs with each value.")
@click.option("--messages", default=5000, show_default=True, help="Messages of a run.")
def main(name: str, first: str, second: str, rounds: int, messages: int) -> None:
    """Measure what control/NAME costs with FIRST in it, beside SECOND."""
    try:
        arena, runs = measure(name, (first, second), rounds, messages)
    except (LoadFailed, TimeoutError) as reason:
        print(f"bench: {reason}", file=sys.stderr)
        sys.exit(1)
    print(f"| load | | {name}={first} | {name}={second} | ratio |\n|---|---|---:|---:|---:|")
    for shape in LOADS:
        of_shape = [run for run in runs if run.shape == shape]
        rate = compared(of_shape, lambda run: run.rate)
        cpu = compared(of_shape, lambda run: run.cpu_milliseconds)
        print(f"| {shape} | messages/s | {rate[0]:,.0f} | {rate[1]:,.0f} | {rate[2]:.3f} |")
        print(f"| {shape} | CPU ms a message | {cpu[0]:.3f} | {cpu[1]:.3f} | {cpu[2]:.3f} |")
    for start in arena.starts:
        print(f"\n{start.contender}: {start.seconds:.2f} s from the start command to the first greeting.")


if __name__ == "__main__":
    main()

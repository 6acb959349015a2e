"""The shapes of load, and one measured run of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.processes import short_directory
from tests.peers.sinks import CountingSink

from bench.contenders import DEAD, LOCAL, RELAYED, Contender, EkidenContender, PostfixContender, start_seconds
from bench.load import Load, files_in, send, send_and_wait, set_aside
from bench.measure import PeakMemory, cpu_seconds, pss_bytes, settle

CONTENDERS: dict[str, Callable[[Path, int], Contender]] = {"Postfix": PostfixContender, "ekiden": EkidenContender}


@dataclass(frozen=True)
class Shape:
    """A load with its name; ``intake`` shapes count until acceptance, the others until arrival.

    ``deferred`` messages for a dead destination are in the queue beforehand.
    """

    name: str
    title: str
    load: Load
    intake: bool = False
    deferred: int = 0


@dataclass(frozen=True)
class Run:
    """One measured run. Rates are messages per second, memory is PSS in octets; ``cpu`` is milliseconds a message by
    the processes' names."""

    shape: str
    contender: str
    round: int
    messages: int
    rate: float
    cpu: dict[str, float]
    peak_memory: int

    @property
    def cpu_milliseconds(self) -> float:
        """Of all processes together."""
        return sum(self.cpu.values())


@dataclass(frozen=True)
class Start:
    """A contender fresh after its start: seconds to the first greeting, PSS at rest after 20 messages."""

    contender: str
    seconds: float
    idle_memory: int


def shapes(messages: int, backlog: int) -> list[Shape]:
    """All shapes, each as a load of about the same weight."""
    basic = Load(messages)
    small = max(200, messages // 5)
    return [
        Shape("single", "one message per session", basic),
        Shape("reused", "sessions reused", Load(messages, reuse=True)),
        Shape("recipients", "50 recipients a message", Load(small, recipients=50)),
        Shape("large", "100 KiB bodies", Load(messages // 2, size=102_400)),
        Shape("maildir", "into a local Maildir", Load(messages // 2, to=LOCAL)),
        Shape("empty", "intake, queue empty", basic, intake=True),
        Shape("backlog", f"intake, {backlog:,} deferred messages queued", basic, intake=True, deferred=backlog),
    ]


def direct_rates(measured: Sequence[Shape]) -> dict[str, float]:
    """Messages per second from smtp-source to smtp-sink with no mail system between: the harness's own ceilings, by
    the names of the shapes that relay."""
    sink = CountingSink()
    try:
        return {
            shape.name: shape.load.messages / send_and_wait(sink.port, shape.load, sink.count).arrived
            for shape in measured
            if shape.load.to == RELAYED
        }
    finally:
        sink.stop()


class Arena:
    """The contenders, each fresh and started, and the sink that both relay to."""

    def __init__(self, contenders: dict[str, Contender], sink: CountingSink) -> None:
        self._contenders = contenders
        self._sink = sink
        self.starts = [self._start(contender) for contender in contenders.values()]

    def versions(self) -> list[str]:
        """The contenders' names with their versions."""
        return [contender.version() for contender in self._contenders.values()]

    def _start(self, contender: Contender) -> Start:
        seconds = start_seconds(contender)
        self._send_and_wait(contender, Load(20))
        settle(contender.pids)
        return Start(contender.name, seconds, pss_bytes(contender.pids()))

    def _send_and_wait(self, contender: Contender, load: Load) -> tuple[float, float]:
        arrived = files_in(contender.maildir) if load.to == LOCAL else self._sink.count
        times = send_and_wait(contender.port, load, arrived)
        return times.accepted, times.arrived

    def run(self, shape: Shape, rounds: int) -> Iterator[Run]:
        """Measure a shape: all contenders in turn, ``rounds`` times."""
        for contender in self._contenders.values():
            if shape.deferred:
                send(contender.port, Load(shape.deferred, reuse=True, to=DEAD))
            self._send_and_wait(contender, shape.load.scaled(0.1))
        for number in range(rounds):
            for contender in self._contenders.values():
                yield self._measure(contender, shape, number)

    def _measure(self, contender: Contender, shape: Shape, number: int) -> Run:
        set_aside(contender.maildir)
        settle(contender.pids)
        os.sync()
        before = cpu_seconds(contender.pids())
        with PeakMemory(contender.pids) as memory:
            accepted, arrived = self._send_and_wait(contender, shape.load)
        after = cpu_seconds(contender.pids())
        count = shape.load.messages
        cpu = {name: (seconds - before.get(name, 0.0)) * 1000 / count for name, seconds in after.items()}
        rate = count / (accepted if shape.intake else arrived)
        return Run(shape.name, contender.name, number, count, rate, cpu, memory.bytes)


@contextmanager
def arena(names: list[str]) -> Iterator[Arena]:
    """Fresh contenders of these names; ended and removed afterwards."""
    with short_directory("bench") as place:
        sink = CountingSink()
        contenders: dict[str, Contender] = {}
        try:
            for name in names:
                directory = place / name
                directory.mkdir()
                contenders[name] = CONTENDERS[name](directory, sink.port)
            yield Arena(contenders, sink)
        finally:
            for contender in contenders.values():
                contender.stop()
            sink.stop()

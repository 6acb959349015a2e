"""A process between a program and whoever it talks to: octets both ways, seen or changed in passing."""

from __future__ import annotations

import os
import select

from ekiden.runtime.ucspi.execute import execute
from ekiden.runtime.ucspi.faults import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READ = 4096
"""Octets at once; a pipe that can be written to takes as many without a wait."""


class Way:
    """One direction: from a descriptor through ``convert`` to another. ``convert`` gets empty octets at the end."""

    def __init__(self, source: int, sink: int, convert: Callable[[bytes], bytes], closes: bool = True) -> None:
        self.source = source
        self.sink = sink
        self.is_open = True
        self.waiting = b""
        self._convert = convert
        self._closes = closes
        self._ended = False

    def wanted(self) -> tuple[int, int]:
        """The descriptor to wait for, and for what."""
        return (self.sink, select.POLLOUT) if self.waiting else (self.source, select.POLLIN)

    def step(self) -> None:
        """Read or write once."""
        try:
            if self.waiting:
                self.waiting = self.waiting[os.write(self.sink, self.waiting[:READ]) :]
            else:
                piece = os.read(self.source, READ)
                self._ended = not piece
                self.waiting = self._convert(piece)
        except OSError:
            self.waiting = b""
            self._ended = True
        if self._ended and not self.waiting:
            self.is_open = False
            if self._closes:
                os.close(self.sink)


def carry(ways: Sequence[Way], until: Way) -> None:
    """Carry octets on all ways until one of them has come to its end."""
    while until.is_open:
        waiting = select.poll()
        # A descriptor may be read on one way and written on the other.
        events: dict[int, int] = {}
        for way in ways:
            if way.is_open:
                descriptor, event = way.wanted()
                events[descriptor] = events.get(descriptor, 0) | event
        for descriptor, event in events.items():
            waiting.register(descriptor, event)
        ready = dict(waiting.poll())
        for way in ways:
            if way.is_open:
                descriptor, event = way.wanted()
                if ready.get(descriptor, 0) & (event | select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    way.step()


def stand_between(
    name: str, program: Sequence[str], inwards: Callable[[bytes], bytes], outwards: Callable[[bytes], bytes]
) -> int:
    """Become a program whose input and output pass through a child of its; the exit code if that fails.

    The program keeps our process number, and whoever waits for it gets its exit code.
    """
    try:
        to_program, from_program = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        return _fail(name, f"unable to create pipe: {explain(error)}")
    try:
        pid = os.fork()
    except OSError as error:
        return _fail(name, f"unable to fork: {explain(error)}")
    if not pid:
        os.close(to_program[0])
        os.close(from_program[1])
        way_in = Way(0, to_program[1], inwards)
        way_out = Way(from_program[0], 1, outwards, closes=False)
        try:
            carry([way_in, way_out], way_out)
        finally:
            os._exit(0)
    os.dup2(to_program[0], 0)
    os.dup2(from_program[1], 1)
    return _fail(name, f"unable to run {program[0]}: {explain(execute(program))}")


def _fail(name: str, text: str) -> int:
    os.write(2, os.fsencode(f"{name}: fatal: {text}\n"))
    return 111

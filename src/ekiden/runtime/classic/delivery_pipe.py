"""qmail-send's end of the two pipes to qmail-lspawn, qmail-rspawn (``spawner`` has the other) and qmail-clean.

Writing never waits: what a pipe does not take is kept and follows. What comes back is not trusted.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")

REPORT = 10_000
"""Octets of a report that are kept."""

_READ = 65_536
_NUMBERS = 256


class Pipes:
    """Octets out on one descriptor, octets in on the other; ``ended()`` is called once when either is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        to: int,
        back: int,
        taken: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._to = to
        self._back = back
        self._taken = taken
        self._ended = ended
        self._unsent = bytearray()
        self.alive = True
        for descriptor in (to, back):
            os.set_blocking(descriptor, False)
        loop.add_reader(back, self._readable)

    def send(self, data: bytes) -> None:
        """Write, now or as soon as there is room."""
        if not self.alive:
            return
        idle = not self._unsent
        self._unsent += data
        if idle:
            self._write()
            if self._unsent:
                self._loop.add_writer(self._to, self._writable)

    def _write(self) -> None:
        try:
            del self._unsent[: os.write(self._to, self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            # Whoever is sending does not expect to be told of the end by the same call.
            self._unsent.clear()
            self._loop.call_soon(self._end)

    def _writable(self) -> None:
        self._write()
        if not self._unsent:
            self._loop.remove_writer(self._to)

    def _readable(self) -> None:
        try:
            data = os.read(self._back, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._taken(data)
        else:
            self._end()

    def _end(self) -> None:
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._back)
            self._loop.remove_writer(self._to)
            self._ended()


class DeliveryPipe(Generic[Key]):
    """Deliveries by a spawner.

    ``reported(key, text)`` is called once for each ``start(key, ...)`` that a report came for, its letter first;
    ``strange()`` for a report that belongs to no delivery; ``ended(keys)`` once when the spawner is gone, with what
    it had not reported on. ``most`` is how many deliveries it can run; others wait here.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        to: int,
        back: int,
        most: int,
        reported: Callable[[Key, bytes], None],
        strange: Callable[[], None],
        ended: Callable[[list[Key]], None],
    ) -> None:
        self._pipes = Pipes(loop, to, back, self._taken, self._gone)
        self._free = deque(range(min(most, _NUMBERS)))
        self._running: dict[int, Key] = {}
        self._waiting: deque[tuple[Key, bytes]] = deque()
        self._rest = b""
        self._reported = reported
        self._strange = strange
        self._ended = ended

    @property
    def alive(self) -> bool:
        """Whether the spawner takes commands."""
        return self._pipes.alive

    def start(self, key: Key, message: bytes, sender: bytes, recipient: bytes) -> None:
        """Have a message delivered; the addresses must not contain NUL."""
        self._waiting.append((key, b"%b\0%b\0%b\0" % (message, sender, recipient)))
        self._fill()

    def _fill(self) -> None:
        while self._free and self._waiting:
            key, command = self._waiting.popleft()
            number = self._free.popleft()
            self._running[number] = key
            self._pipes.send(b"%c%b" % (number, command))

    def _taken(self, data: bytes) -> None:
        data, start = self._rest + data, 0
        # The number itself may be NUL.
        while (end := data.find(b"\0", start + 1)) > 0:
            number, text = data[start], data[start + 1 : min(end, start + 1 + REPORT)]
            start = end + 1
            if number not in self._running:
                self._strange()
                continue
            self._free.append(number)
            self._reported(self._running.pop(number), text)
        self._rest = data[start : start + 1 + REPORT]
        self._fill()

    def _gone(self) -> None:
        keys = [*self._running.values(), *(key for key, _command in self._waiting)]
        self._running.clear()
        self._waiting.clear()
        self._ended(keys)

"""The table of addresses that timed out, kept in ``queue/tcpto`` so that a restart does not forget them.

A line for each address: the address, when its last timeout counted (seconds of the epoch), how many there were. As
with qmail's own file nothing is lost with it but time: it is not made durable, and lines that cannot be read are
passed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ekiden.delivery.remote_hosts import CAPACITY, HostMemory, Timeouts, memory_for
from ekiden.runtime.frames import HostState
from ekiden.settings.schema import Settings

_LINE_OCTETS = 200


class HostTable:
    """The file in the queue's directory, open from the start; if that is not possible, nothing is kept.

    Only who serves the queue may ``create`` it: it is to be theirs.
    """

    def __init__(self, directory: Path, create: bool = True) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        try:
            self._descriptor = os.open(directory / "tcpto", flags, 0o600)
        except OSError:
            self._descriptor = -1

    def share(self) -> None:
        """Let the file's group keep the table: qmail-remote, started by qmail-rspawn."""
        with contextlib.suppress(OSError):
            os.fchmod(self._descriptor, 0o660)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For those who share it. Who serves the queue waits for nobody: a word about an address may be lost."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def load(self) -> dict[str, HostState]:
        """What was kept, by address."""
        return {state.address: state for state in self._read()}

    def _read(self) -> Iterator[HostState]:
        now = time.time()
        try:
            text = os.pread(self._descriptor, CAPACITY * _LINE_OCTETS, 0).decode("utf-8", "replace")
        except OSError:
            return
        for line in text.split("\n")[:CAPACITY]:
            try:
                address, since, count = line.rsplit(" ", 2)
                yield HostState(address, min(float(int(since)), now), max(1, int(count)))
            except (ValueError, OverflowError):
                continue

    def keep(self, states: Iterable[HostState]) -> None:
        """Write all of them down in place of what was kept."""
        lines = (f"{state.address} {int(state.since)} {state.count}\n" for state in states)
        text = "".join(lines).encode("utf-8", "replace")
        try:
            os.pwrite(self._descriptor, text, 0)
            os.truncate(self._descriptor, len(text))
        except OSError:
            # A full disk: what is in memory counts, and the table is written again at the next change.
            return


class SharedHosts:
    """What is known of addresses to a program that makes one delivery: others like it keep the same table."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._table = HostTable(directory, create=False)
        self._settings = settings
        self._memory = self._load()

    def _load(self) -> HostMemory:
        memory = memory_for(self._settings)
        for state in self._table.load().values():
            memory.learn(state.address, Timeouts(state.since, state.count))
        return memory

    def is_dead(self, address: str) -> bool:
        """Whether to leave the address alone."""
        return self._memory.is_dead(address, time.time())

    def timed_out(self, address: str) -> None:
        """Note a timeout."""
        self._change(lambda memory: memory.timed_out(address, time.time()) is not None)

    def answered(self, address: str) -> None:
        """Note that the address answers."""
        if self._memory.answered(address):
            self._change(lambda memory: memory.answered(address))

    def _change(self, change: Callable[[HostMemory], bool]) -> None:
        with self._table.locked():
            self._memory = self._load()
            if change(self._memory):
                known = self._memory.entries()
                self._table.keep(HostState(address, last.since, last.count) for address, last in known)

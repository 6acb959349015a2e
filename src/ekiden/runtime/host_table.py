"""The table of addresses that timed out, kept in ``queue/tcpto`` so that a restart does not forget them.

A line for each address: the address, when its last timeout counted (seconds of the epoch), how many there were. As
with qmail's own file nothing is lost with it but time: it is not made durable, and lines that cannot be read are
passed over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ekiden.delivery.remote_hosts import CAPACITY
from ekiden.runtime.frames import HostState

_LINE_OCTETS = 200


class HostTable:
    """The file in the queue's directory, open from the start; if that is not possible, nothing is kept."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(directory / "tcpto", flags, 0o600)
        except OSError:
            self._descriptor = -1

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
            except ValueError:
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

"""The guide's machine, once per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.machine import Machine, Syslog
from tests.peers.processes import Unavailable


@pytest.fixture
def machine(place: Path) -> Iterator[Machine]:
    """A machine with qmail's users and a home whose programs do not run yet."""
    try:
        made = Machine(place)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield made
    made.stop()


@pytest.fixture
def syslog(machine: Machine) -> Iterator[Syslog]:
    """The machine's syslog daemon."""
    daemon = Syslog(machine)
    yield daemon
    daemon.close()

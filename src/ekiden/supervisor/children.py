"""The roles' processes, and the places that they fill."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ekiden.roles import pop3d
from ekiden.runtime.census import Table
from ekiden.settings.schema import Settings


@dataclass
class Child:
    """A role's process. ``draining``: replaced after a reload, finishing what it has at hand."""

    role: str
    index: int
    pid: int
    since: float
    """Seconds of the epoch, for people to see."""
    started: float
    """The same on the clock that nobody sets."""
    draining: bool = False
    generation: int = 1
    table: Table | None = None
    column: int = -1
    """Where it counts its clients (``runtime.census``), if it does."""
    channel: socket.socket | None = None
    """Where it is sent the certificate (``runtime.certificate``), and says that it accepts nobody any more."""


@dataclass
class Slot:
    """A place for one process of a role, and when it may be filled again."""

    role: str
    index: int
    failures: int = 0
    not_before: float = 0.0
    """Seconds of the clock that nobody sets."""


def wanted(settings: Settings) -> list[Slot]:
    """The places that settings ask for, beside those of the log and the queue."""
    cpus = len(os.sched_getaffinity(0))
    doors = settings.smtpdprocesses or max(1, cpus // 2)
    outs = settings.remoteprocesses or max(1, cpus // 4)
    slots = [Slot("remote", index) for index in range(outs)] + [Slot("local", 0)]
    if settings.listen:
        slots += [Slot("smtpd", index) for index in range(doors)]
    if any(listener.service in pop3d.SERVICES for listener in settings.listen):
        logins = settings.pop3dprocesses or max(1, cpus // 2)
        slots += [Slot("pop3d", index) for index in range(logins)]
    if any(listener.auth != "no" for listener in settings.listen):
        slots.append(Slot("keeper", 0))
    return slots


def wait_for_closed_doors(children: Iterable[Child], seconds: float) -> None:
    """Return when none of these processes accepts clients any more, or after ``seconds``: one may be held up."""
    waited = {child.channel.fileno() for child in children if child.channel is not None}
    ends = select.poll()
    for descriptor in waited:
        # Nothing is ever said there: what can be read is the end.
        ends.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + seconds
    while waited and (left := deadline - time.monotonic()) > 0:
        for descriptor, _event in ends.poll(left * 1000):
            ends.unregister(descriptor)
            waited.discard(descriptor)


def release(child: Child) -> None:
    """Nothing is kept for a process that has ended, and its clients are gone."""
    if child.channel is not None:
        child.channel.close()
    if child.table is not None:
        child.table.clear(child.column)

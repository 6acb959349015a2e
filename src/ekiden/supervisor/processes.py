"""The roles' processes: forked into their places, put back there when they have died, and told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

from ekiden.runtime import roster
from ekiden.runtime.census import Census, Table
from ekiden.runtime.log import Log
from ekiden.runtime.packets import channel
from ekiden.runtime.role import SIGNALS
from ekiden.supervisor.children import Child, Slot, release
from ekiden.supervisor.entering import DOORS

SLOWEST_RESTART = 5.0
"""Seconds between two tries to fill a place, at the most."""

_SETTLED = 10.0
"""Seconds after which a role that died counts as having worked."""

Enter = Callable[[Child, Census | None, socket.socket | None, socket.socket | None], None]
"""Is the role, in the child, and returns when that has ended. Given, as far as the role needs them: where clients are
counted, where the certificate comes from, where the queue is told who the others are."""


class Processes:
    """Those of one home.

    ``ended`` is told of each that has, with its exit code, or less the signal's number. ``columns``: how many may
    count clients at the same time; ``pem``: the certificate that clients are shown now. ``sink``: the log's socket.
    """

    def __init__(
        self,
        enter: Enter,
        ended: Callable[[Child, int], None],
        columns: Callable[[], int],
        pem: Callable[[], bytes],
        sink: socket.socket,
    ) -> None:
        self.children: dict[int, Child] = {}
        self.slots: list[Slot] = []
        """The places to be filled."""
        self.generation = 1
        self._enter = enter
        self._ended = ended
        self._columns = columns
        self._pem = pem
        self._sink = sink
        self._table = Table(columns())
        self._roster: socket.socket | None = None
        """Where the queue is told who the others are."""

    # Beginning

    def spawn(self, slot: Slot) -> None:
        """Fork a process for a place. OSError if that cannot be."""
        child = Child(slot.role, slot.index, 0, time.time(), time.monotonic(), generation=self.generation)
        with contextlib.ExitStack() as closing:
            wait, go = os.pipe2(os.O_CLOEXEC)
            closing.callback(os.close, wait)
            closing.callback(os.close, go)
            theirs = closing.enter_context(self._equip(child)) if slot.role in DOORS else None
            told = closing.enter_context(self._open_roster()) if slot.role == "queue" else None
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                child.pid = os.fork()
            except OSError:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                release(child)
                raise
            if not child.pid:
                self._work(child, go, wait, theirs, told)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self.children[child.pid] = child
            # The child waits for this: nobody connects to the queue before it knows who that is.
            self._tell_roster()

    def _work(
        self, child: Child, go: int, wait: int, theirs: socket.socket | None, told: socket.socket | None
    ) -> NoReturn:
        """In the child: let go of what is other roles', be the role, and end."""
        status = 1
        try:
            os.close(go)
            os.read(wait, 1)
            os.close(wait)
            for other in (*self.children.values(), child):
                if other.channel is not None:
                    other.channel.close()
            if self._roster is not None:
                self._roster.close()
            census = Census(self._table, child.column) if child.column >= 0 else None
            self._enter(child, census, theirs, told)
            status = 0
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            _last_words(self._sink, child.role, error)
        finally:
            os._exit(status)

    def _equip(self, child: Child) -> socket.socket:
        """Before the fork: where a process that serves clients counts them, and where it gets the certificate."""
        if self._table.full:
            # More processes than before a reload; those that are there count on in the table that they have.
            self._table = Table(self._columns())
        child.column, child.table = self._table.column(), self._table
        child.channel, theirs = channel()
        if pem := self._pem():
            child.channel.send(pem)
        return theirs

    def _open_roster(self) -> socket.socket:
        """Before the queue's fork: where it is told who the others are; the queue before it is gone."""
        if self._roster is not None:
            self._roster.close()
        self._roster, theirs = channel()
        return theirs

    def _tell_roster(self) -> None:
        if self._roster is not None:
            roster.tell(self._roster, {child.pid: child.role for child in self.children.values()})

    def refill(self, log: Log) -> bool:
        """Start what is missing and due; whether anything was."""
        due = [slot for slot in self._missing() if slot.not_before <= time.monotonic()]
        for slot in due:
            try:
                self.spawn(slot)
            except OSError as error:
                log.alert(f"unable to start a {slot.role} process: {error.strerror}; trying again")
                slot.not_before = time.monotonic() + SLOWEST_RESTART
        return bool(due)

    def until_refill(self) -> float | None:
        """Seconds until one that is missing is due; None if none is missing."""
        missing = self._missing()
        return max(0.0, min(slot.not_before for slot in missing) - time.monotonic()) if missing else None

    def _missing(self) -> list[Slot]:
        alive = {(child.role, child.index) for child in self.children.values() if not child.draining}
        return [slot for slot in self.slots if (slot.role, slot.index) not in alive]

    # Ending

    def reap(self) -> bool:
        """Take note of processes that have ended; whether there were any."""
        found = False
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            found = True
            # As process 1 the supervisor inherits the orphans of users' programs too.
            child = self.children.pop(pid, None)
            if child is not None:
                release(child)
                self._ended(child, os.waitstatus_to_exitcode(status))
        if found:
            self._tell_roster()
        return found

    def put_off(self, child: Child) -> None:
        """One has died: the more often it has lately, the later its place is filled again."""
        for slot in self.slots:
            if (slot.role, slot.index) == (child.role, child.index):
                slot.failures = 0 if time.monotonic() - child.started > _SETTLED else slot.failures + 1
                slot.not_before = time.monotonic() + min(SLOWEST_RESTART, 0.05 * 2**slot.failures)

    def of(self, roles: Collection[str]) -> list[Child]:
        """Those of these roles."""
        return [child for child in self.children.values() if child.role in roles]

    def signal(self, role: str, number: signal.Signals) -> None:
        """Tell those of a role that have not been replaced."""
        send((child for child in self.of((role,)) if not child.draining), number)

    def wake(self) -> None:
        """Whoever has been halted (SIGSTOP) hears of nothing else: the roles, and what local has made."""
        send(self.children.values(), signal.SIGCONT)
        if os.getpgrp() == os.getsid(0):
            os.killpg(0, signal.SIGCONT)

    def end(self, roles: Collection[str], deadline: float) -> None:
        """Tell them to end, and wait until they have; who has not by ``deadline`` (time.monotonic) is killed."""
        send(self.of(roles), signal.SIGTERM)
        while self.of(roles):
            if time.monotonic() > deadline:
                send(self.of(roles), signal.SIGKILL)
            self.reap()
            time.sleep(0.005)


def send(children: Iterable[Child], number: signal.Signals) -> None:
    """Send a signal to each."""
    for child in children:
        os.kill(child.pid, number)


def _last_words(sink: socket.socket, role: str, error: BaseException) -> None:
    """Log why a role ends; its own log may be in pieces."""
    with contextlib.suppress(OSError):
        Log(role, sink).fault(role, error)

"""The processes that serve POP3 sessions: forked by the keeper, each for one mailbox and one session at a time.

They are kept warm for that mailbox's next session; ``process`` is what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

import msgspec

from ekiden.runtime.link import Link
from ekiden.runtime.pop3.frames import Serve, Served
from ekiden.runtime.pop3.process import Work, begin

IDLE_SECONDS = 30.0
"""How long a process without a session is kept."""

_SWEEP = 5.0

Whose = tuple[int, int, bytes, bytes, bytes]
"""Whose mailbox a process serves: uid, gid, name, home, mailbox. Many names may have one uid."""


class _Worker:
    """One process. ``done``: what to call when its session has ended; None while it has none."""

    def __init__(self, who: Whose, pid: int, link: Link[Served], now: float) -> None:
        self.who = who
        self.pid = pid
        self.link = link
        self.idle_since = now
        self.done: Callable[[Served | None], None] | None = None


class Workers:
    """The processes of all users. ``most`` without a session are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work, most: int = 64) -> None:
        self._loop = loop
        self._work = work
        self._most = most
        self._idle: dict[Whose, list[_Worker]] = {}
        self._all: set[_Worker] = set()
        self._sweeper = loop.call_later(_SWEEP, self._sweep)
        self.emptied = asyncio.Event()
        self._decoder = msgspec.msgpack.Decoder(Served)

    @property
    def sessions(self) -> int:
        """How many are being served."""
        return sum(worker.done is not None for worker in self._all)

    def serve(self, uid: int, gid: int, task: Serve, descriptor: int, done: Callable[[Served | None], None]) -> None:
        """Have the user's process serve a client; ``done`` is told how it ended, None if the process died.

        ``descriptor`` is closed here. Raises OSError if no process can be made, and leaves the descriptor open.
        """
        who = uid, gid, task.user, task.home, task.mailbox
        waiting = self._idle.get(who)
        worker = waiting.pop() if waiting else self._hire(who)
        worker.done = done
        worker.link.send(task, descriptor)

    def stop(self) -> None:
        """End those without a session; ask the others to send their clients away at their next command."""
        self._sweeper.cancel()
        for worker in tuple(self._all):
            if worker.done is None:
                worker.link.close()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End them all now. Nothing that a mailbox has is lost by that."""
        for worker in tuple(self._all):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def _hire(self, who: Whose) -> _Worker:
        uid, gid, *_mailbox = who
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if not pid:
            begin(uid, gid, theirs, self._work)
        theirs.close()
        link: Link[Served]
        link = Link(
            self._loop,
            ours,
            self._decoder,
            lambda frame, _descriptor: self._ended(worker, frame),
            lambda _reason: self._lost(worker),
        )
        worker = _Worker(who, pid, link, self._loop.time())
        exited = os.pidfd_open(pid)
        self._loop.add_reader(exited, self._reap, exited, pid)
        self._all.add(worker)
        return worker

    def _ended(self, worker: _Worker, frame: Served) -> None:
        done, worker.done = worker.done, None
        if done is None:
            worker.link.close()
            return
        if frame.last:
            worker.link.close()
            done(frame)
            return
        worker.idle_since = self._loop.time()
        self._idle.setdefault(worker.who, []).append(worker)
        if sum(map(len, self._idle.values())) > self._most:
            self._oldest().link.close()
        done(frame)
        self._tell()

    def _oldest(self) -> _Worker:
        return min((worker for idle in self._idle.values() for worker in idle), key=lambda worker: worker.idle_since)

    def _lost(self, worker: _Worker) -> None:
        self._all.discard(worker)
        idle = self._idle.get(worker.who, [])
        if worker in idle:
            idle.remove(worker)
        if not idle:
            self._idle.pop(worker.who, None)
        done, worker.done = worker.done, None
        if done is not None:
            done(None)
        self._tell()

    def _tell(self) -> None:
        if not self.sessions:
            self.emptied.set()

    def _reap(self, exited: int, pid: int) -> None:
        self._loop.remove_reader(exited)
        os.close(exited)
        os.waitpid(pid, 0)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
        before = self._loop.time() - IDLE_SECONDS
        for worker in tuple(self._all):
            if worker.done is None and worker.idle_since < before:
                worker.link.close()

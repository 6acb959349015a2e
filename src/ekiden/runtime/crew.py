"""Child processes that each work as one user, kept warm for the next piece of work and ended when there is none.

They are made by a fork server (``runtime.fork_server``), since whoever gives them work may make no processes. Tasks
are frames, and each gets one answer. A child that dies, is silent for too long or answers nonsense loses its tasks:
each gets the answer None. A child keeps nothing open but its own connection, the descriptors that the server is told
to keep and standard error, and cannot become anybody else again. The kernel makes a process that changed its user
undumpable, so that the user's other programs cannot look into it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ekiden.runtime.fork_server import ForkServer
from ekiden.runtime.link import Link


class Answer(Protocol):
    """A frame from a child; ``token`` is the task's. ``last``: another child is to have what comes from now on."""

    @property
    def token(self) -> int: ...

    @property
    def last(self) -> bool: ...


AnswerType = TypeVar("AnswerType", bound=Answer)

IDLE_SECONDS = 10.0
"""How long a child without work is kept."""

SILENT_SECONDS = 86_400.0
"""How long a task may take; maildir(5) gives a delivery 24 hours."""

_SWEEP = 2.0


class _Child(Generic[AnswerType]):
    """One child and what it has in hand."""

    def __init__(self, pid: int, link: Link[AnswerType], now: float) -> None:
        self.pid = pid
        self.link = link
        self.idle_since = now
        self.tasks: dict[int, tuple[float, Callable[[AnswerType | None], None]]] = {}


class Crew(Generic[AnswerType]):
    """Children by user. ``most`` are kept at the same time, if work does not need more."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, server: ForkServer, answers: type[AnswerType], most: int
    ) -> None:
        self._loop = loop
        self._server = server
        self._decoder = msgspec.msgpack.Decoder(answers)
        self._most = most
        self._children: dict[tuple[int, int], _Child[AnswerType]] = {}
        self._leaving: set[_Child[AnswerType]] = set()
        """Those that get nothing more, and still have something in hand."""
        self._sweeping = False

    def give(
        self,
        uid: int,
        gid: int,
        name: bytes,
        token: int,
        task: Any,
        descriptor: int | None,
        done: Callable[[AnswerType | None], None],
    ) -> None:
        """Have the user's child do a task; ``done`` is called once. Raises OSError if no child can be made.

        ``name``: a local part that is the user's. ``descriptor`` goes along with the task and is closed here, except
        if OSError is raised.
        """
        child = self._children.get((uid, gid)) or self._hire(uid, gid, name)
        child.tasks[token] = (self._loop.time(), done)
        child.link.send(task, descriptor)

    def end(self) -> None:
        """Let every child go as soon as it has nothing in hand."""
        for child in self._all():
            child.link.close()

    def _all(self) -> list[_Child[AnswerType]]:
        return [*self._children.values(), *self._leaving]

    def __len__(self) -> int:
        return len(self._children)

    def _hire(self, uid: int, gid: int, name: bytes) -> _Child[AnswerType]:
        if len(self._children) >= self._most:
            self._let_one_go()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                for end in (ours, theirs):
                    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                        end.setsockopt(socket.SOL_SOCKET, option, 1024 * 1024)
                pid = self._server.make(uid, gid, name, theirs)
            except OSError:
                ours.close()
                raise
        key = uid, gid
        link: Link[AnswerType]
        link = Link(
            self._loop,
            ours,
            self._decoder,
            lambda frame, _descriptor: self._answered(key, child, frame),
            lambda reason: self._lost(key, child),
        )
        child = _Child(pid, link, self._loop.time())
        self._children[key] = child
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP, self._sweep)
        return child

    def _answered(self, key: tuple[int, int], child: _Child[AnswerType], frame: AnswerType) -> None:
        task = child.tasks.pop(frame.token, None)
        if task is None:
            child.link.close("answer to a question that was not asked")
            return
        if frame.last and self._children.get(key) is child:
            del self._children[key]
            self._leaving.add(child)
        if not child.tasks:
            child.idle_since = self._loop.time()
            if child in self._leaving:
                child.link.close()
        task[1](frame)

    def _lost(self, key: tuple[int, int], child: _Child[AnswerType]) -> None:
        if self._children.get(key) is child:
            del self._children[key]
        self._leaving.discard(child)
        tasks, child.tasks = child.tasks, {}
        for _since, done in tasks.values():
            done(None)

    def _let_one_go(self) -> None:
        idle = [child for child in self._children.values() if not child.tasks]
        if idle:
            min(idle, key=lambda child: child.idle_since).link.close()

    def _sweep(self) -> None:
        now = self._loop.time()
        for child in self._all():
            if child.tasks and min(since for since, _done in child.tasks.values()) + SILENT_SECONDS < now:
                self._server.kill(child.pid)
                child.link.close()
            elif not child.tasks and child.idle_since + IDLE_SECONDS < now:
                child.link.close()
        self._sweeping = bool(self._all())
        if self._sweeping:
            self._loop.call_later(_SWEEP, self._sweep)

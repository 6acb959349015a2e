"""Child processes that each work as one user, kept warm for the next piece of work and ended when there is none.

The parent gives tasks as frames and gets one answer for each. A child that dies, is silent for too long or answers
nonsense loses its tasks: each gets the answer None. A child keeps nothing open but its own connection, the
descriptors that it is told to keep and standard error, and cannot become anybody else again. The kernel makes a
process that changed its user undumpable, so that the user's other programs cannot look into it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

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


class Who:
    """A user by number; None in both places: whoever this process is."""

    __slots__ = ("gid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid

    def become(self) -> None:
        """Change to this user for good; raises OSError. Without effect if not root."""
        if os.geteuid() == 0:
            # qmail-lspawn(8): no supplementary groups.
            os.setgroups([self.gid])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        if not self.uid or os.getresuid() != (self.uid,) * 3:
            raise PermissionError("did not become the user")


class _Child(Generic[AnswerType]):
    """One child and what it has in hand."""

    def __init__(self, pid: int, exit_descriptor: int, link: Link[AnswerType], now: float) -> None:
        self.pid = pid
        self.exit_descriptor = exit_descriptor
        self.link = link
        self.idle_since = now
        self.tasks: dict[int, tuple[float, Callable[[AnswerType | None], None]]] = {}


class Crew(Generic[AnswerType]):
    """Children by user.

    ``work(connection)`` is what a child does until the other end closes; it must not return to the caller's event
    loop. ``most`` children are kept at the same time, if work does not need more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[socket.socket], None],
        answers: type[AnswerType],
        most: int,
        keep: Iterable[int] = (),
    ) -> None:
        self._loop = loop
        self._work = work
        self._decoder = msgspec.msgpack.Decoder(answers)
        self._most = most
        self._keep = frozenset(keep)
        self._children: dict[tuple[int, int], _Child[AnswerType]] = {}
        self._leaving: set[_Child[AnswerType]] = set()
        """Those that get nothing more, and still have something in hand."""
        self._sweeping = False

    def give(
        self,
        uid: int,
        gid: int,
        token: int,
        task: Any,
        descriptor: int | None,
        done: Callable[[AnswerType | None], None],
    ) -> None:
        """Have the user's child do a task; ``done`` is called once. Raises OSError if no child can be made.

        ``descriptor`` goes along with the task and is closed here, except if OSError is raised.
        """
        child = self._children.get((uid, gid)) or self._hire(Who(uid, gid))
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

    def _hire(self, who: Who) -> _Child[AnswerType]:
        if len(self._children) >= self._most:
            self._let_one_go()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1024 * 1024)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if not pid:
            self._begin(who, theirs)
        theirs.close()
        key = (who.uid, who.gid)
        link: Link[AnswerType]
        link = Link(
            self._loop,
            ours,
            self._decoder,
            lambda frame, _descriptor: self._answered(key, child, frame),
            lambda reason: self._lost(key, child),
        )
        child = _Child(pid, os.pidfd_open(pid), link, self._loop.time())
        self._loop.add_reader(child.exit_descriptor, self._reap, child)
        self._children[key] = child
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP, self._sweep)
        return child

    def _begin(self, who: Who, connection: socket.socket) -> None:
        """In the child: become the user, work, and end without ever returning."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Control-C in a terminal is for the parent, which waits for what is in hand.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            close_all_but(self._keep | {2, connection.fileno()})
            os.umask(0o077)
            who.become()
            self._work(connection)
            status = 0
        except BaseException as error:
            os.write(2, f"ekiden: uid {who.uid}: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        finally:
            os._exit(status)

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

    def _reap(self, child: _Child[AnswerType]) -> None:
        self._loop.remove_reader(child.exit_descriptor)
        os.close(child.exit_descriptor)
        os.waitpid(child.pid, 0)

    def _let_one_go(self) -> None:
        idle = [child for child in self._children.values() if not child.tasks]
        if idle:
            min(idle, key=lambda child: child.idle_since).link.close()

    def _sweep(self) -> None:
        now = self._loop.time()
        for child in self._all():
            if child.tasks and min(since for since, _done in child.tasks.values()) + SILENT_SECONDS < now:
                os.kill(child.pid, signal.SIGKILL)
                child.link.close()
            elif not child.tasks and child.idle_since + IDLE_SECONDS < now:
                child.link.close()
        self._sweeping = bool(self._all())
        if self._sweeping:
            self._loop.call_later(_SWEEP, self._sweep)


def close_all_but(kept: frozenset[int]) -> None:
    """Put /dev/null in the place of every other descriptor.

    They are not closed, because objects that came along with the fork may still close their numbers later, which
    must not hit files that were opened meanwhile.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in kept and descriptor != null:
            os.dup2(null, descriptor, inheritable=descriptor <= 2)

"""A process of local's that is the recipient's user: deliveries in, how they ended out.

The fork server makes it (``runtime.fork_server``), for one user, whose next messages it is kept for. It gives up what
the first one's ``.qmail`` file does not take (``fences.delivery_fence``).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ekiden.base.envelope import Envelope
from ekiden.base.outcome import Verdict
from ekiden.delivery.carrier import Carrier
from ekiden.delivery.content import Content, WireContent, WireFile, damage
from ekiden.delivery.handing_on import NOWHERE, Beyond, hand_on
from ekiden.delivery.letter import Letter
from ekiden.delivery.local import Forward
from ekiden.delivery.local_limits import LocalLimits
from ekiden.delivery.program import surroundings
from ekiden.delivery.quota import define
from ekiden.delivery.report import ELSEWHERE, Report, Trouble, deferred, failed
from ekiden.routing.users import Users
from ekiden.runtime.fences.delivery_fence import Fence
from ekiden.runtime.frames import Rejected
from ekiden.runtime.injection.forwards import Forwards
from ekiden.runtime.intake import Intake
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.role import Context


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One delivery for a child; the fields are those of delivery.letter.Letter, content in wire form.

    ``envelope`` has the one recipient.
    """

    token: int
    user: bytes
    home: bytes
    local: bytes
    dash: bytes
    ext: bytes
    domain: bytes
    envelope: Envelope
    content: bytes
    has_descriptor: bool
    checksum: int
    fences: bool
    """Whether the child may give up what this and later deliveries to the same places do not take."""


class Done(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a task ended. ``last``: it was not begun, because this child has given up what it takes."""

    token: int
    verdict: Verdict
    text: str
    beyond: Beyond = NOWHERE
    last: bool = False


def whose(context: Context, local: bytes) -> tuple[int, int]:
    """The uid and gid that an address is delivered as, found out by a process that nobody has talked to yet.

    Raises UsersUnavailable.
    """
    user = Users(context.home).find(local)
    return user.uid, user.gid


def work(context: Context, connection: socket.socket) -> None:
    """Deliver tasks from ``connection`` until it is closed and nothing is in hand."""
    loop = asyncio.SelectorEventLoop()
    try:
        Worker(context, connection, loop).run()
    finally:
        loop.close()


class Worker:
    """Tasks in, ends of deliveries out."""

    def __init__(self, context: Context, connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._default = context.settings.defaultdelivery
        settings = context.settings
        log = Log("local", 2)
        self._forwards = Forwards(
            lambda: Intake(loop, lambda: context.connect("inject"), settings.inlinebytes, settings.timeoutqueue, log)
        )
        quota = define(settings.quotabytes, settings.quotamessages)
        limits = LocalLimits(settings.programseconds, quota, settings.quotaover == "fail")
        self._fence = Fence()
        around = surroundings(os.environ, str(context.home))
        self._carrier = Carrier(loop, self._forward, around, limits, self._fence.admit)
        self._tasks: dict[Letter, Task] = {}
        self._beyond: dict[Letter, Beyond] = {}
        self._closed = False
        self._fault: BaseException | None = None
        self._grace = context.settings.shutdownseconds
        self._link: Link[Task] = Link(
            loop, connection, msgspec.msgpack.Decoder(Task), self._take, self._end, self._carrier.turn
        )

    def run(self) -> None:
        """Raises what went wrong with this program itself: the parent then defers everything that was in hand."""
        self._loop.set_exception_handler(self._fail)
        self._loop.run_forever()
        if self._fault is not None:
            raise self._fault

    def _fail(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._fault = context.get("exception") or RuntimeError(context["message"])
        self._loop.stop()

    def _take(self, task: Task, descriptor: int | None) -> None:
        if not task.fences:
            self._fence.leave_open()
        if descriptor is not None and (fault := damage(descriptor, task.checksum)):
            os.close(descriptor)
            self._link.send(Done(task.token, Verdict.DEFERRED, fault))
            return
        content: Content = WireContent(task.content) if descriptor is None else WireFile(descriptor)
        letter = Letter(
            task.user,
            task.home,
            task.local,
            task.dash,
            task.ext,
            task.domain,
            task.envelope.sender,
            self._default,
            content,
            time.time(),
        )
        self._tasks[letter] = task
        self._carrier.take(letter, lambda report: self._done(letter, report))

    def _done(self, letter: Letter, report: Report) -> None:
        task = self._tasks.pop(letter)
        beyond = self._beyond.pop(letter, NOWHERE)
        if report.verdict == ELSEWHERE:
            text = "Another process has to deliver this. (#4.3.0)\n"
            self._link.send(Done(task.token, Verdict.DEFERRED, text, last=True))
        else:
            self._link.send(Done(task.token, Verdict(report.verdict), report.text, beyond))
        if self._closed and not self._carrier.busy:
            self._loop.stop()

    def _end(self, _reason: str) -> None:
        """Nobody hears of what comes of this any more; a program may end by itself for a while, so that no more than
        need be is done twice.
        """
        self._closed = True
        if not self._carrier.busy:
            self._loop.stop()
        else:
            self._loop.call_later(self._grace, self._give_up)

    def _give_up(self) -> None:
        # The next program of the same .qmail file gets no time of its own.
        self._carrier.end_programs()
        self._loop.call_later(1.0, self._give_up)

    def _forward(self, step: Forward, letter: Letter, answer: Callable[[int | Trouble], None]) -> None:
        task = self._tasks[letter]

        def ended(result: int | Rejected) -> None:
            if isinstance(result, int):
                answer(result)
                return
            text = f"Unable to forward message: {result.text} (#{result.status})."
            answer(failed(text) if result.code >= 500 else deferred(text))

        envelope, self._beyond[letter] = hand_on(step, task.envelope)
        name = b"alias" if task.user == b"alias" else b"uid %d" % os.getuid()
        self._forwards.inject(envelope, name, letter.delivered_to, letter.content.wire, ended)

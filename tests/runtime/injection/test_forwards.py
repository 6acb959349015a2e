"""Forwards on their way into the queue, against a queue that the test plays."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Iterator

import msgspec
import pytest

from ekiden.base.envelope import Envelope, Recipient
from ekiden.runtime.frames import Accepted, Inject, IntakeRequest, Rejected, SpoolGrant, SpoolRelease, SpoolRequest
from ekiden.runtime.injection.forwards import Forwards
from ekiden.runtime.intake import Intake
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log

Played = Callable[["Queue", object], None]


class Queue:
    """The other end: keeps what it is told and plays a part."""

    def __init__(self, loop: asyncio.AbstractEventLoop, play: Played) -> None:
        self.frames: list[object] = []
        self.connections = 0
        self._loop = loop
        self._play = play
        self.link: Link[IntakeRequest]

    def connect(self) -> socket.socket:
        self.connections += 1
        ours, theirs = socket.socketpair()
        decoder = msgspec.msgpack.Decoder(IntakeRequest)
        self.link = Link(self._loop, ours, decoder, self._take, lambda reason: None)
        return theirs

    def _take(self, frame: IntakeRequest, _descriptor: int | None) -> None:
        self.frames.append(frame)
        self._play(self, frame)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def inject(
    loop: asyncio.AbstractEventLoop,
    play: Played,
    content: bytes = b"Subject: x\r\n",
    inline: int = 1000,
    times: int = 1,
) -> tuple[Queue, list[int | Rejected]]:
    queue = Queue(loop, play)
    forwards = Forwards(lambda: Intake(loop, queue.connect, inline, 60, Log("test", 2)))
    results: list[int | Rejected] = []

    def ended(result: int | Rejected) -> None:
        results.append(result)
        if len(results) == times:
            # What was said last has to arrive.
            loop.call_later(0.02, loop.stop)

    for _ in range(times):
        envelope = Envelope(b"a@b", [Recipient(b"c@d"), Recipient(b"e@f")], 1, True)
        forwards.inject(envelope, b"uid 5", b"Delivered-To: x@y\n", lambda: [content], ended)
    loop.call_later(10, loop.stop)
    loop.run_forever()
    return queue, results


def accept(queue: Queue, frame: object) -> None:
    assert isinstance(frame, Inject)
    queue.link.send(Accepted(frame.token, 9))


def test_a_message(loop: asyncio.AbstractEventLoop) -> None:
    queue, results = inject(loop, accept)
    assert results == [os.getpid()]
    (frame,) = queue.frames
    assert isinstance(frame, Inject)
    assert frame.envelope == Envelope(b"a@b", [Recipient(b"c@d"), Recipient(b"e@f")], 1, True)
    assert (frame.origin.pid, frame.origin.uid) == (os.getpid(), os.getuid())
    assert re.fullmatch(
        rb"Received: \(qmail %d invoked by uid 5\); [^\r\n]+ -0000\r\nDelivered-To: x@y\r\nSubject: x\r\n"
        % os.getpid(),
        frame.content,
    )


def test_many_at_once_share_a_connection(loop: asyncio.AbstractEventLoop) -> None:
    queue, results = inject(loop, accept, times=20)
    assert (len(results), queue.connections) == (20, 1)


@pytest.mark.parametrize("code", [451, 552])
def test_a_refusal(loop: asyncio.AbstractEventLoop, code: int) -> None:
    def reject(queue: Queue, frame: object) -> None:
        assert isinstance(frame, Inject)
        queue.link.send(Rejected(frame.token, code, "5.3.4", "too much"))

    _queue, (result,) = inject(loop, reject)
    assert isinstance(result, Rejected)
    assert (result.text, result.status, result.code) == ("too much", "5.3.4", code)


def test_a_large_message_goes_by_file(loop: asyncio.AbstractEventLoop) -> None:
    file = os.memfd_create("spool")
    content = b"line\r\n" * 1000

    def play(queue: Queue, frame: object) -> None:
        if isinstance(frame, SpoolRequest):
            queue.link.send(SpoolGrant(frame.token, "granted"), os.dup(file))
        else:
            accept(queue, frame)

    queue, results = inject(loop, play, content)
    assert results == [os.getpid()]
    last = queue.frames[-1]
    assert isinstance(last, Inject)
    stored = os.pread(file, 100_000, 0)
    os.close(file)
    assert stored.endswith(b"\r\nDelivered-To: x@y\r\n" + content)
    assert stored.count(content) == 1
    assert (last.content, last.spool, last.size) == (b"", "granted", len(stored))


def test_a_file_that_cannot_be_written_is_given_back(loop: asyncio.AbstractEventLoop) -> None:
    def play(queue: Queue, frame: object) -> None:
        if isinstance(frame, SpoolRequest):
            queue.link.send(SpoolGrant(frame.token, "granted"), os.open("/dev/full", os.O_RDWR))

    queue, (result,) = inject(loop, play, b"x" * 100_000)
    assert isinstance(result, Rejected)
    assert (result.status, result.code) == ("4.3.1", 452)
    assert queue.frames[1:] == [SpoolRelease("granted")]


def test_a_queue_that_goes_away(loop: asyncio.AbstractEventLoop) -> None:
    _queue, results = inject(loop, lambda queue, frame: queue.link.close(), times=3)
    assert all(isinstance(result, Rejected) and result.code < 500 for result in results)
    assert len(results) == 3


def test_no_queue(loop: asyncio.AbstractEventLoop) -> None:
    def refuse() -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    results: list[int | Rejected] = []
    forwards = Forwards(lambda: Intake(loop, refuse, 10, 60, Log("test", 2)))
    forwards.inject(Envelope(b"", [Recipient(b"a@b")]), b"x", b"\n", list, results.append)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert isinstance(results[0], Rejected)
    assert (results[0].status, results[0].code) == ("4.3.0", 451)

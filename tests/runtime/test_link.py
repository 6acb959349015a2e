from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from ekiden.base.envelope import Envelope, Origin, Recipient
from ekiden.runtime.frames import Accepted, Inject, IntakeRequest, Rejected, SpoolGrant, SpoolRequest
from ekiden.runtime.link import MAXIMUM_FRAME, Link

INJECT = Inject(7, Envelope(b"s", [Recipient(b"r")]), Origin("smtp", 1, 2), b"content\r\n")
Frames = list[tuple[Any, int | None]]


class End:
    """One end of a link and what came to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: socket.socket, types: Any) -> None:
        self.frames: Frames = []
        self.closed: list[str] = []
        self.turns = 0
        decoder = msgspec.msgpack.Decoder(types)
        self.link: Link[Any] = Link(
            loop,
            connection,
            decoder,
            lambda frame, descriptor: self.frames.append((frame, descriptor)),
            self.closed.append,
            self._turn,
        )

    def _turn(self) -> None:
        self.turns += 1


def linked(test: Callable[[End, End], Any], answers: Any = Accepted | Rejected | SpoolGrant) -> None:
    async def run() -> None:
        left, right = socket.socketpair()
        loop = asyncio.get_running_loop()
        asking, answering = End(loop, left, answers), End(loop, right, IntakeRequest)
        await test(asking, answering)
        asking.link.close()
        answering.link.close()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def test_frames_sent_in_one_turn_arrive_in_order_and_in_one_read() -> None:
    async def test(asking: End, answering: End) -> None:
        for _ in range(100):
            asking.link.send(INJECT)
        await until(lambda: len(answering.frames) == 100)
        assert answering.frames[0] == (INJECT, None)
        assert answering.turns == 1

    linked(test)


def test_frames_larger_than_the_socket_takes_at_once() -> None:
    large = msgspec.structs.replace(INJECT, content=b"x" * 3_000_000)

    async def test(asking: End, answering: End) -> None:
        for _ in range(3):
            asking.link.send(large)
            asking.link.send(INJECT)
        await until(lambda: len(answering.frames) == 6)
        assert [len(frame.content) for frame, _ in answering.frames] == [3_000_000, 9] * 3
        assert asking.link.backlog == 0

    linked(test)


def test_descriptors_arrive_with_their_frames() -> None:
    async def test(asking: End, answering: End) -> None:
        for token in range(300):
            descriptor = os.memfd_create("spool")
            os.write(descriptor, b"%d" % token)
            answering.link.send(SpoolGrant(token, f"name{token}"), descriptor)
            answering.link.send(Accepted(token, 1))
        await until(lambda: len(asking.frames) == 600)
        for frame, descriptor in asking.frames:
            if isinstance(frame, SpoolGrant):
                assert descriptor is not None
                assert os.pread(descriptor, 10, 0) == b"%d" % frame.token
                os.close(descriptor)
            else:
                assert descriptor is None

    linked(test)


def test_bytes_one_at_a_time_make_the_same_frames() -> None:
    async def run() -> None:
        left, right = socket.socketpair()
        end = End(asyncio.get_running_loop(), right, IntakeRequest)
        encoded = b"".join(
            struct.pack(">I", len(data)) + data for data in map(msgspec.msgpack.encode, [INJECT, SpoolRequest(3)])
        )
        for octet in encoded:
            left.send(bytes([octet]))
            await asyncio.sleep(0)
        await until(lambda: len(end.frames) == 2)
        assert [frame for frame, _ in end.frames] == [INJECT, SpoolRequest(3)]
        left.close()
        await until(lambda: end.closed)
        assert end.closed == ["end of file"]

    asyncio.run(run())


def closes_with(data: bytes) -> str:
    reasons: list[str] = []

    async def run() -> None:
        left, right = socket.socketpair()
        end = End(asyncio.get_running_loop(), right, IntakeRequest)
        left.send(data)
        await until(lambda: end.closed)
        assert end.frames == []
        reasons.extend(end.closed)
        left.close()

    asyncio.run(run())
    assert len(reasons) == 1
    return reasons[0]


def framed(value: Any) -> bytes:
    data = msgspec.msgpack.encode(value)
    return struct.pack(">I", len(data)) + data


def test_what_is_not_a_frame_ends_the_connection() -> None:
    assert "bad frame" in closes_with(framed({"not": "a frame"}))
    assert "bad frame" in closes_with(framed(Accepted(1, 1))), "a frame of the other direction"
    assert "bad frame" in closes_with(struct.pack(">I", MAXIMUM_FRAME + 1))
    nested = b"\x93\4\1" + b"\x91" * 5000 + b"\xc0"
    assert "bad frame" in closes_with(struct.pack(">I", len(nested)) + nested)
    assert "bad frame" in closes_with(framed([1, "seven", [b"s", []], ["smtp", 1, 2], b"content"]))


def test_an_announced_descriptor_that_is_missing_ends_the_connection() -> None:
    async def test(asking: End, answering: End) -> None:
        answering.link.send(SpoolGrant(1, "name"))
        await until(lambda: asking.closed)
        assert "descriptor is missing" in asking.closed[0]

    linked(test)


def test_descriptors_that_nobody_announces_do_not_pile_up() -> None:
    async def run() -> None:
        left, right = socket.socketpair()
        end = End(asyncio.get_running_loop(), right, IntakeRequest)
        frame = framed(SpoolRequest(3))
        descriptor = os.memfd_create("unannounced")
        with contextlib.suppress(OSError):
            for _ in range(100):
                socket.send_fds(left, [frame], [descriptor] * 100)
                await asyncio.sleep(0)
        os.close(descriptor)
        await until(lambda: end.closed)
        assert "no frame announced" in end.closed[0]
        left.close()
        with os.scandir("/proc/self/fd") as entries:
            assert not any("unannounced" in os.readlink(entry) for entry in entries)

    asyncio.run(run())


def test_received_descriptors_are_not_left_to_programs() -> None:
    async def test(asking: End, answering: End) -> None:
        answering.link.send(SpoolGrant(1, "name"), os.memfd_create("spool"))
        await until(lambda: asking.frames)
        descriptor = asking.frames[0][1]
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)

    linked(test)


def test_a_peer_that_dies_with_our_frames_unread_is_noticed() -> None:
    """uvloop calls the reader of a socket in error once: that call has to read the last answer and the end."""

    async def run() -> None:
        left, right = socket.socketpair()
        end = End(asyncio.get_running_loop(), left, Accepted)
        end.link.send(Accepted(1, 1))
        await asyncio.sleep(0)
        answer = msgspec.msgpack.encode(Accepted(7, 3))
        right.send(struct.pack(">I", len(answer)) + answer)
        right.close()
        await until(lambda: end.closed)
        assert [frame for frame, _descriptor in end.frames] == [Accepted(7, 3)]

    uvloop.run(run())


def test_a_closed_link_that_its_owner_holds_takes_no_memory() -> None:
    """Found by the soak: a link and whoever hears its frames hold each other; its buffer waited for the collector."""
    count = 50

    def open_and_close(loop: asyncio.AbstractEventLoop) -> None:
        left, right = socket.socketpair()
        link: Link[Any]
        link = Link(loop, left, msgspec.msgpack.Decoder(Any), lambda *_frame: link.close(), lambda _reason: None)
        link.close()
        right.close()

    async def work() -> None:
        for _ in range(count):
            open_and_close(asyncio.get_running_loop())

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        asyncio.run(work())
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < count * 20_000

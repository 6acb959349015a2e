"""The queue's end of run/inject, against peers that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from ekiden.base.envelope import Envelope, Origin, Recipient
from ekiden.runtime.frames import Inject, Rejected, SpoolGrant, SpoolRequest
from ekiden.runtime.injection import link as inject_link
from ekiden.runtime.injection.limits import ENVELOPE_OCTETS, FILES, Limits
from ekiden.runtime.injection.link import InjectLink
from ekiden.settings.schema import Settings

INJECT = Inject(7, Envelope(b"s", [Recipient(b"r")]), Origin("local", 1, 2), b"content\r\n")


class Guest:
    """A link, what came to it, and the peer's socket."""

    def __init__(self, limits: Limits, answer: Any = None) -> None:
        self.frames: list[Any] = []
        self.closed: list[str] = []
        self.granted: set[str] = set()
        self.peer, connection = socket.socketpair()
        self.peer.setblocking(False)
        self._answer = answer
        loop = asyncio.get_running_loop()
        self.link = InjectLink(loop, connection, limits, self.granted, self._take, self.closed.append)
        self.link.admit()

    def _take(self, frame: Any, descriptor: int | None) -> None:
        assert descriptor is None
        self.frames.append(frame)
        if self._answer is not None:
            self._answer(self.link, frame)

    async def say(self, data: bytes) -> None:
        """Send all of it, however long it takes to be read."""
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.peer, data), 60)

    def heard(self) -> list[Any]:
        """The frames that were sent to the peer."""
        data = self.peer.recv(1 << 20)
        found = []
        while data:
            (length,) = struct.unpack_from(">I", data)
            found.append(msgspec.msgpack.decode(data[4 : 4 + length], type=Rejected | SpoolGrant))
            data = data[4 + length :]
        return found


def framed(value: Any) -> bytes:
    data = msgspec.msgpack.encode(value)
    return struct.pack(">I", len(data)) + data


def serve(test: Callable[[Limits], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        settings.setdefault("inlinebytes", 100_000)
        await test(Limits(asyncio.get_running_loop(), Settings(me=b"host", **settings)))

    asyncio.run(run())


def open_files(name: str) -> int:
    """How many descriptors of this process are of files whose name holds ``name``."""
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += name in os.readlink(f"/proc/self/fd/{entry}")
    return found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_frames_come_through_in_any_pieces(step: int) -> None:
    async def test(limits: Limits) -> None:
        guest = Guest(limits)
        large = msgspec.structs.replace(INJECT, content=b"x" * (300 if step < 10 else 90_000))
        stream = b"".join(map(framed, (INJECT, SpoolRequest(3), large, INJECT)))
        for start in range(0, len(stream), step):
            await guest.say(stream[start : start + step])
        await until(lambda: len(guest.frames) == 4)
        # What is decoded is of a stricter type.
        sent = [INJECT, SpoolRequest(3), large, INJECT]
        assert list(map(msgspec.msgpack.encode, guest.frames)) == list(map(msgspec.msgpack.encode, sent))
        guest.peer.close()
        await until(lambda: guest.closed)
        assert guest.closed == ["end of file"]

    serve(test)


def test_what_is_not_a_frame_ends_the_connection() -> None:
    async def test(limits: Limits) -> None:
        for data, reason in (
            (framed({"not": "a frame"}), "bad frame"),
            (framed(Rejected(1, 451, "4.3.0", "")), "bad frame"),
            (struct.pack(">I", 5003) + b"\x92\4" + b"\x91" * 5000 + b"\xc0", "bad frame"),
            (struct.pack(">I", 100_000 + ENVELOPE_OCTETS + 1), "too long"),
            (framed([1, 7, [b"s", [[b""]] * 200_001], ["local", 1, 2], b""]), "length <= 200000"),
        ):
            guest = Guest(limits)
            await guest.say(data)
            await until(lambda guest=guest: guest.closed)
            assert reason in guest.closed[0]
            assert guest.frames == []

    serve(test)


def test_descriptors_are_not_taken() -> None:
    async def test(limits: Limits) -> None:
        guest = Guest(limits)
        before = open_files(os.devnull)
        with open(os.devnull) as null:
            for _ in range(50):
                socket.send_fds(guest.peer, [framed(SpoolRequest(1))], [null.fileno()] * 100)
        await until(lambda: len(guest.frames) == 50)
        assert open_files(os.devnull) == before

    serve(test)


def test_a_long_frame_costs_what_has_arrived() -> None:
    async def test(limits: Limits) -> None:
        guest = Guest(limits)
        await guest.say(struct.pack(">I", limits.frame) + b"x" * 1000)
        await until(lambda: guest.link._buffer)
        assert len(guest.link._buffer) == 1004

    serve(test)


def test_users_wait_for_their_share_of_memory() -> None:
    """Of two frames of the largest size the second is read when the first is gone."""

    async def test(limits: Limits) -> None:
        first, second = Guest(limits), Guest(limits)
        start = struct.pack(">I", limits.frame) + b"x" * 200_000
        await first.say(start)
        await until(lambda: len(first.link._buffer) == len(start))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(second.peer, start * 10), 0.1)
        assert len(second.link._buffer) < 3 * inject_link.FREE
        third = Guest(limits)
        await third.say(framed(INJECT))
        await until(lambda: third.frames)
        first.peer.close()
        await until(lambda: len(second.link._buffer) > 3 * inject_link.FREE)

    serve(test)


def test_connections_are_limited_by_user_and_in_all() -> None:
    async def test(limits: Limits) -> None:
        present = [Guest(limits) for _ in range(3)]
        refused = Guest(limits)
        assert "too many connections" in refused.closed[0]
        assert refused.heard()[0].status == "4.3.2"
        present[0].peer.close()
        await until(lambda: present[0].closed)
        assert Guest(limits).closed == []

    serve(test, injectperuser=3)
    serve(test, injectconnections=3)


def test_answers_that_are_not_read_stop_the_questions() -> None:
    """Nothing is done for a peer that does not read, and nothing kept; when it reads, it gets everything."""
    asked = 20_000

    async def test(limits: Limits) -> None:
        guest = Guest(limits, lambda link, frame: link.send(Rejected(frame.token, 451, "4.3.0", "x" * 100)))
        sending = asyncio.create_task(guest.say(framed(SpoolRequest(1)) * asked))
        await until(lambda: guest.link._waiting_to_write)
        await asyncio.sleep(0.05)
        assert guest.link.backlog < 4 * (1 << 20)
        answered = len(guest.frames)
        assert answered < asked
        received = 0
        size = len(framed(Rejected(1, 451, "4.3.0", "x" * 100)))
        while received < size * asked:
            received += len(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(guest.peer, 1 << 20), 60))
        await sending
        assert len(guest.frames) == asked

    serve(test)


def test_descriptors_are_not_kept_for_a_peer_that_does_not_read() -> None:
    async def test(limits: Limits) -> None:
        def grant(link: Any, frame: Any) -> None:
            link.send(SpoolGrant(frame.token, "name" * 500), os.memfd_create("kept"))

        guest = Guest(limits, grant)
        await guest.say(framed(SpoolRequest(1)) * 1000)
        await until(lambda: guest.link._waiting_to_write)
        assert len(guest.frames) < 1000
        assert open_files("memfd:kept") <= 1
        guest.link.close()
        assert open_files("memfd:kept") == 0

    serve(test)


def test_files_of_a_user_are_limited_over_all_connections() -> None:
    async def test(limits: Limits) -> None:
        one, other = Guest(limits), Guest(limits)
        one.granted.update(map(str, range(FILES - 1)))
        assert other.link.may_have_file
        other.granted.add("last")
        assert not one.link.may_have_file
        one.link.close()
        assert other.link.may_have_file

    serve(test)


def test_what_takes_too_long_is_closed() -> None:
    async def test(limits: Limits) -> None:
        begun, idle, writing = Guest(limits), Guest(limits), Guest(limits)
        writing.granted.add("file")
        await begun.say(b"\0")
        now = asyncio.get_running_loop().time()
        for guest in (begun, idle, writing):
            guest.link.check(now + inject_link.FRAME_SECONDS - 1)
        assert begun.closed == idle.closed == writing.closed == []
        for guest in (begun, idle, writing):
            guest.link.check(now + inject_link.FRAME_SECONDS + 1)
        assert begun.closed == ["frame not finished in time"]
        assert idle.closed == []
        for guest in (idle, writing):
            guest.link.check(now + inject_link.IDLE_SECONDS + 1)
        assert idle.closed == ["nothing was asked for a long time"]
        assert writing.closed == []

    serve(test)

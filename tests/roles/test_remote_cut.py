"""The remote role and next hops that end a session anywhere, speak broken TLS or stop reading."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest
from tests.roles.test_remote import Handler, Peer, Server, deliver, good, play, role, start

from ekiden.base.outcome import Verdict

REPLIES = (
    b"220 mx.example ESMTP\r\n",
    b"250-mx.example\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n",
    b"250 ok\r\n250 ok\r\n354 go\r\n",
    b"250 2.0.0 queued\r\n",
)
SAID = sum(map(len, REPLIES))
RESET = b"\1\0\0\0\0\0\0\0"


class Cut:
    """Every connection is cut off after one octet more than the one before, by a reset or in good order."""

    def __init__(self, reset: bool) -> None:
        self._reset = reset
        self._count = 0
        self.whole = 0

    async def serve(self, peer: Peer) -> None:
        left, self._count = self._count, self._count + 1
        ends = (b"", b"\r\n", b"DATA\r\n", b"\r\n.\r\n")
        for reply, end in zip(REPLIES, ends, strict=True):
            if end:
                await peer.reader.readuntil(end)
            peer.writer.write(reply[:left])
            left -= len(reply)
            if left < 0:
                break
        else:
            self.whole += 1
        if self._reset:
            await asyncio.sleep(0.5)  # what was said before has arrived: a reset would take it back
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.writer.transport.abort()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_session_cut_after_each_octet_is_deferred_unless_all_was_said(reset: bool) -> None:
    cut = Cut(reset)

    async def scenario() -> None:
        server = Server(cut.serve)
        await server.start("0.0.0.0")
        # A destination each: at one, a message would get the next connection.
        destinations = [b"[127.0.0.%d]:%d" % (number + 1, server.port) for number in range(SAID + 1)]
        async with role(reusemessages=1) as queue:
            reports = await asyncio.gather(*map(queue.attempt, destinations))
            verdicts = [report.outcomes[0].verdict for report in reports]
            assert set(verdicts) <= {Verdict.DELIVERED, Verdict.DEFERRED}
            assert verdicts.count(Verdict.DELIVERED) == cut.whole == 1
            assert sum("Possible duplicate" in report.outcomes[0].text for report in reports) == len(REPLIES[-1])

    play(scenario)


async def tls_garbage(peer: Peer) -> None:
    peer.writer.write(b"\x16\x03\x03\x40\x00" + os.urandom(1000))


async def tls_plain(peer: Peer) -> None:
    peer.say("220 still here")


async def tls_reset(peer: Peer) -> None:
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.writer.transport.abort()


async def tls_in_the_clear(peer: Peer) -> None:
    peer.say("250 injected")


async def tls_silent(peer: Peer) -> None:
    await asyncio.sleep(60)


async def tls_half_a_record(peer: Peer) -> None:
    peer.writer.write(b"\x16\x03\x03\x00\x7a\x02\x00")


async def tls_endless_record(peer: Peer) -> None:
    for _ in range(3000):
        peer.writer.write(b"\x16\x03\x03\x3f\xff\x02\xff\xff\xff" + bytes(16379))
        await peer.writer.drain()


def breaking(after: Handler) -> Handler:
    """A server that takes STARTTLS and then does that; whoever comes without gets its mail delivered."""

    async def handler(peer: Peer) -> None:
        peer.say("220 mx.example ESMTP")
        await peer.hear()
        peer.say("250-mx.example", "250 STARTTLS")
        command = await peer.hear()
        if command == "STARTTLS":
            peer.say("220 go")
            if after is not tls_in_the_clear:
                await peer.reader.read(1)  # what comes before the handshake has begun is another matter
            await after(peer)
            return
        peer.say("250 ok")
        await peer.transaction()

    return handler


BREAKS = [tls_garbage, tls_plain, tls_reset, tls_silent, tls_half_a_record, tls_endless_record]


@pytest.mark.parametrize("after", BREAKS)
@pytest.mark.parametrize(("wish", "verdict"), [("may", Verdict.DELIVERED), ("always", Verdict.DEFERRED)])
def test_broken_tls_defers_or_is_done_without(after: Handler, wish: str, verdict: Verdict) -> None:
    async def scenario() -> None:
        outcome = await deliver(breaking(after), timeouthelo=3, tlsremote=wish)
        assert outcome.verdict == verdict

    play(scenario)


def test_what_comes_in_the_clear_after_starttls_defers() -> None:
    async def scenario() -> None:
        assert (await deliver(breaking(tls_in_the_clear))).verdict == Verdict.DEFERRED

    play(scenario)


async def deaf(peer: Peer) -> None:
    """Takes the message's beginning and reads no more."""
    await peer.greet("8BITMIME")
    for _ in range(2):
        await peer.hear()
        peer.say("250 ok")
    await peer.hear()
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
    peer.say("354 go")
    await asyncio.sleep(60)


async def chatting(peer: Peer) -> None:
    """Answers what nobody asked, as long as it is heard."""
    await peer.greet("PIPELINING")
    for _ in range(100_000):
        peer.say("250 ok")
        await peer.writer.drain()


async def many_lines(peer: Peer) -> None:
    await peer.greet("PIPELINING")
    await peer.hear()
    for _ in range(1_000_000):
        peer.say("250-more")
        await peer.writer.drain()


def resident() -> int:
    """This process's memory, octets."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("handler", [chatting, many_lines, deaf])
def test_too_much_or_too_little_is_deferred_in_bounded_memory(handler: Handler) -> None:
    async def scenario() -> None:
        content = b"Subject: a\r\n\r\n" + b"x" * (28_000_000 if handler is deaf else 10)
        server = await start(handler)
        async with role(timeoutdatablock=1, timeoutdataend=2, timeoutmail=2, reusemessages=1) as queue:
            before = resident()
            job = queue.attempt(server.destination, content=content, in_file=handler is deaf)
            (outcome,) = (await job).outcomes
            assert outcome.verdict == Verdict.DEFERRED
            assert resident() - before < 15_000_000

    play(scenario)


def is_connected_to(port: int) -> bool:
    """Whether this process has a connection to that port."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                if found.family == socket.AF_INET and found.getpeername()[1] == port:
                    return True
    return False


def test_a_server_that_refuses_and_reads_no_more_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.delivery.remote_limits.QUIT_SECONDS", 1.0)

    async def refusing(peer: Peer) -> None:
        await peer.greet("8BITMIME")
        for _ in range(2):
            await peer.hear()
            peer.say("250 ok")
        await peer.hear()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        peer.say("354 go")
        await asyncio.sleep(0.2)
        peer.say("552 too much")
        await asyncio.sleep(60)

    async def scenario() -> None:
        server = await start(refusing)
        async with role() as queue:
            report = await queue.attempt(server.destination, content=b"\r\n" + b"x" * 28_000_000, in_file=True)
            assert report.outcomes[0].verdict == Verdict.FAILED
            while is_connected_to(server.port):
                await asyncio.sleep(0.1)

    play(scenario)


def test_others_are_served_while_many_next_hops_are_broken() -> None:
    async def scenario() -> None:
        bad = [await start(breaking(after)) for after in BREAKS for _ in range(5)]
        right = await start(good)
        async with role(timeouthelo=10) as queue:
            broken = [queue.attempt(server.destination) for server in bad]
            outcomes = [(await queue.attempt(right.destination)).outcomes[0] for _ in range(20)]
            assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
            assert not all(one.done() for one in broken)
            assert {(await one).outcomes[0].verdict for one in broken} == {Verdict.DELIVERED}

    play(scenario)

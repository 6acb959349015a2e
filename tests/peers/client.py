"""A client under which anything may break: many sessions, each message in the ledger, every failure survived."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.peers.accounting import Ledger
from tests.peers.processes import wait_until

_PATIENCE = 30.0
"""Seconds that a client waits for a reply."""
OUT_OF_PATIENCE = repr(TimeoutError())
"""The trouble of one that waited longer."""


class LoadClient:
    """Sends to 127.0.0.1:``port`` from ``sessions`` sessions at once until stopped or ``limit`` messages are sent.

    A session carries ``reuse`` messages, then a new one begins; also when the server refuses, hangs up or cannot be
    reached. Recipients are taken in turn; an entry may name several, separated by spaces.
    ``pause``: seconds between two messages of a session; ``first``: the number of the first one.
    """

    def __init__(
        self,
        port: int,
        ledger: Ledger,
        recipients: Sequence[str] = ("somebody@sink.example",),
        sessions: int = 10,
        reuse: int = 5,
        limit: int = 1_000_000,
        size: Callable[[int], int] = lambda _number: 2000,
        pause: float = 0.0,
        first: int = 0,
    ) -> None:
        self._port = port
        self._ledger = ledger
        self._recipients = recipients
        self._sessions = sessions
        self._reuse = reuse
        self._limit = limit
        self._size = size
        self._pause = pause
        self._numbers = iter(range(first, first + limit))
        self._stopping = False

    def run(self) -> None:
        """Send until the limit is reached or ``stop`` is called."""
        asyncio.run(self._run())

    def stop(self) -> None:
        """Finish the messages at hand and end; may be called from another thread."""
        self._stopping = True

    @contextmanager
    def running(self, until_done: bool = False) -> Iterator[None]:
        """Send in the background while the block runs; stopped at its end unless ``until_done``, and waited for."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            if not until_done:
                self.stop()
            thread.join(2 * _PATIENCE)
            assert not thread.is_alive(), "the load client hangs"

    def send_until_acknowledged(self, count: int) -> None:
        """Send until the ledger has so many acknowledged, which those refused in a gap do not keep from coming."""
        with self.running():
            wait_until(lambda: len(self._ledger.acknowledged) >= count, f"{count} messages acknowledged")

    async def _run(self) -> None:
        await asyncio.gather(*(self._session_after_session() for _ in range(self._sessions)))

    async def _session_after_session(self) -> None:
        while not self._stopping:
            try:
                if not await self._session():
                    return
            except (TimeoutError, OSError, asyncio.IncompleteReadError, _Refused) as error:
                self._ledger.broken += 1
                self._ledger.troubles[repr(error)] += 1
                await asyncio.sleep(0.02)

    async def _session(self) -> bool:
        """One session; False when there is nothing more to send."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await _expect(reader, b"2")
            await _ask(reader, writer, b"EHLO client.example\r\n", b"2")
            for _ in range(self._reuse):
                number = next(self._numbers, None)
                if number is None or self._stopping:
                    return False
                await self._message(reader, writer, number)
                await asyncio.sleep(self._pause)
            writer.write(b"QUIT\r\n")
            return True
        finally:
            writer.close()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        recipients = self._recipients[number % len(self._recipients)].split()
        await _ask(reader, writer, b"MAIL FROM:<sender@load.example>\r\n", b"2")
        for recipient in recipients:
            await _ask(reader, writer, f"RCPT TO:<{recipient}>\r\n".encode(), b"2")
        identity, content = self._ledger.compose(number, self._size(number))
        await _ask(reader, writer, b"DATA\r\n", b"3")
        writer.write(content.replace(b"\r\n.", b"\r\n.."))
        try:
            await _ask(reader, writer, b".\r\n", b"2")
        except _Refused as error:
            self._ledger.refused += 1
            self._ledger.troubles[repr(error)] += 1
            return
        self._ledger.acknowledged.add(identity)


class _Refused(Exception):
    """A reply that was not the one wanted."""


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: bytes, wanted: bytes) -> None:
    writer.write(command)
    await writer.drain()
    await _expect(reader, wanted)


async def _expect(reader: asyncio.StreamReader, wanted: bytes) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            line = await reader.readuntil(b"\n")
            if line[3:4] != b"-":
                break
    if not line.startswith(wanted):
        raise _Refused(line.decode(errors="replace"))

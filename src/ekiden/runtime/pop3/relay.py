"""Between a client with TLS and its session: a socket pair's end in the process that encrypts and decrypts."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast


class Client(Protocol):
    """The connection with the client."""

    def write(self, data: bytes) -> None:
        """To the client."""

    def close(self) -> None:
        """The session is over."""

    def regulate(self, reading: bool) -> None:
        """Whether to read from the client."""


class Relay(asyncio.Protocol):
    """The other end of a session's socket pair: what a client said under TLS goes in, answers come out."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.writelines(self._early)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._client.close()

    def pause_writing(self) -> None:
        self._client.regulate(False)

    def resume_writing(self) -> None:
        self._client.regulate(True)

    def send(self, data: bytes) -> None:
        """To the session."""
        if self._transport is not None:
            self._transport.write(data)
        else:
            self._early.append(data)

    def finish(self) -> None:
        """The client has hung up."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause(self) -> None:
        """The client does not read."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """The client reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """The client is gone."""
        if self._transport is not None:
            self._transport.close()

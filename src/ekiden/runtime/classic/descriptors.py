"""A connection on two descriptors, for programs that wait: each read and each write at most so many seconds.

They may be a socket (tcpserver, inetd), pipes or files. With ``secure`` what goes through them from then on is TLS.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

READ_OCTETS = 65_536

_PIECE = 4096
"""Octets that a descriptor which is ready to be written takes without blocking (PIPE_BUF)."""


class Descriptors:
    """``reading`` and ``writing`` are left open. Timeouts raise TimeoutError, everything else that fails OSError."""

    def __init__(self, seconds: float, reading: int = 0, writing: int = 1) -> None:
        self.seconds = seconds
        self._reading = reading
        self._writing = writing
        self._tls: _Tls | None = None

    def read(self, seconds: float | None = None) -> bytes:
        """What there is, waiting for some; empty at the end, also when TLS is ended. ``seconds``: another limit."""
        limit = self.seconds if seconds is None else seconds
        if self._tls is None:
            return self._receive(limit)
        while not (plain := self._tls.read()) and not self._tls.ended:
            data = self._receive(limit)
            if not data:
                return b""
            self._tls.incoming.write(data)
            self._send(self._tls.outgoing.read())
        return plain

    def write(self, data: bytes) -> None:
        """All of it."""
        if self._tls is not None and data:
            data = self._tls.encrypt(data)
        self._send(data)

    def secure(self, context: ssl.SSLContext) -> None:
        """Make the server's handshake. OSError if it fails."""
        tls = _Tls(context)
        while not tls.shake_hands():
            self._send(tls.outgoing.read())
            data = self._receive(self.seconds)
            if not data:
                raise ConnectionError("the client left during the handshake")
            tls.incoming.write(data)
        self._send(tls.outgoing.read())
        self._tls = tls

    def finish(self) -> None:
        """Say that TLS is over, if there was any."""
        if self._tls is not None:
            self._tls.end()
            self._send(self._tls.outgoing.read())

    def _receive(self, seconds: float) -> bytes:
        self._await(self._reading, select.POLLIN, seconds)
        return os.read(self._reading, READ_OCTETS)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._await(self._writing, select.POLLOUT, self.seconds)
            view = view[os.write(self._writing, view[:_PIECE]) :]

    def _await(self, descriptor: int, what: int, seconds: float) -> None:
        poll = select.poll()
        poll.register(descriptor, what)
        if not poll.poll(seconds * 1000):
            raise TimeoutError


class _Tls:
    """The server's side of TLS over octets."""

    def __init__(self, context: ssl.SSLContext) -> None:
        import ssl

        self._waiting = ssl.SSLWantReadError
        self._over = ssl.SSLZeroReturnError
        self.ended = False
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake_hands(self) -> bool:
        """Whether the handshake is made; if not, more must be read."""
        try:
            self._object.do_handshake()
        except self._waiting:
            return False
        return True

    def read(self) -> bytes:
        """What has been said so far; ``ended`` once the client has said that nothing more follows."""
        pieces = []
        while not self.ended:
            try:
                piece = self._object.read(READ_OCTETS)
            except self._waiting:
                break
            except self._over:
                piece = b""
            self.ended = not piece
            pieces.append(piece)
        return b"".join(pieces)

    def encrypt(self, data: bytes) -> bytes:
        """What carries the data."""
        self._object.write(data)
        return self.outgoing.read()

    def end(self) -> None:
        """Have the end announced; the client's own is not waited for."""
        try:
            self._object.unwrap()
        except OSError:
            return

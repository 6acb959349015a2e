"""TLS for programs that know nothing of it: a child process translates between their pipes and the connection.

As sslserver.1 and sslclient.1 of ucspi-ssl have it. The handshake comes first, in the process that then becomes the
program, so that the program's environment can tell of it.
"""

from __future__ import annotations

import os
import select
import ssl
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

READ = 16384
"""Octets at once: one TLS record's."""

_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


def shake_hands(
    connection: socket.socket, context: ssl.SSLContext, seconds: float, server_side: bool, host: str | None = None
) -> ssl.SSLSocket:
    """TLS on a connection within that time. ``host`` is whom a client means. Raises OSError."""
    secure = context.wrap_socket(
        connection, server_side=server_side, do_handshake_on_connect=False, server_hostname=host
    )
    try:
        secure.settimeout(seconds)
        secure.do_handshake()
    except BaseException:
        secure.close()
        raise
    return secure


def translate(secure: ssl.SSLSocket, idle: float) -> tuple[int, int]:
    """Start the child that translates; the descriptors for the program to read from and to write to.

    The child ends when the program has closed its output or nothing happened for ``idle`` seconds. Raises OSError.
    """
    to_program, from_program = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(to_program[1])
        os.close(from_program[0])
        # The connection is the child's; a plain close says nothing to the other side.
        os.close(secure.detach())
        return to_program[0], from_program[1]
    try:
        os.close(to_program[0])
        os.close(from_program[1])
        _Tunnel(secure, from_program[0], to_program[1]).run(idle)
    finally:
        os._exit(0)


class _Tunnel:
    """Octets both ways: from the program's output (``source``) to the peer, from the peer to its input (``sink``)."""

    def __init__(self, secure: ssl.SSLSocket, source: int, sink: int) -> None:
        self._secure, self._source, self._sink = secure, source, sink
        self._to_peer = self._to_program = b""
        self._peer_talks = self._program_talks = True
        self._read_wants_write = False
        secure.setblocking(False)
        os.set_blocking(source, False)
        os.set_blocking(sink, False)

    def run(self, idle: float) -> None:
        """Until the program has closed its output and all of it is sent."""
        while self._program_talks or self._to_peer:
            moved = self._from_peer() | self._from_program() | self._into_program() | self._into_peer()
            if not moved and not self._wait(idle):
                return
        self._secure.settimeout(1.0)
        with suppress(OSError, ValueError):
            self._secure.unwrap()

    def _wait(self, idle: float) -> bool:
        waiting = select.poll()
        events = select.POLLIN if self._peer_talks and not self._to_program else 0
        if self._to_peer or self._read_wants_write:
            events |= select.POLLOUT
        if events:
            waiting.register(self._secure, events)
        if self._program_talks and not self._to_peer:
            waiting.register(self._source, select.POLLIN)
        if self._to_program:
            waiting.register(self._sink, select.POLLOUT)
        return bool(waiting.poll(idle * 1000))

    def _from_peer(self) -> bool:
        if not self._peer_talks or self._to_program:
            return False
        self._read_wants_write = False
        try:
            self._to_program = self._secure.recv(READ)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
            return False
        except OSError:
            self._to_program = b""
        if not self._to_program:
            self._peer_talks = False
            self._close_sink()
        return True

    def _from_program(self) -> bool:
        if not self._program_talks or self._to_peer:
            return False
        try:
            self._to_peer = os.read(self._source, READ)
        except BlockingIOError:
            return False
        self._program_talks = bool(self._to_peer)
        return True

    def _into_program(self) -> bool:
        if not self._to_program:
            return False
        try:
            self._to_program = self._to_program[os.write(self._sink, self._to_program) :]
        except BlockingIOError:
            return False
        except OSError:
            # It reads no more; what comes is for nobody.
            self._to_program = b""
            self._peer_talks = False
            self._close_sink()
        return True

    def _into_peer(self) -> bool:
        if not self._to_peer:
            return False
        try:
            self._to_peer = self._to_peer[self._secure.send(self._to_peer) :]
        except _WANTS:
            return False
        except OSError:
            self._to_peer = b""
            self._program_talks = self._peer_talks = False
            self._close_sink()
        return True

    def _close_sink(self) -> None:
        if self._sink >= 0:
            os.close(self._sink)
            self._sink = -1

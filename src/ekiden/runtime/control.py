"""Asking the queue role over ``run/control``, from the command line: one request, one answer, no event loop."""

from __future__ import annotations

import os
import select
import socket
import struct
from pathlib import Path

import msgspec

from ekiden.runtime.control_frames import ControlAnswer, ControlRequest
from ekiden.runtime.socket_path import short_path

_LENGTH = struct.Struct(">I")
_decoder: msgspec.msgpack.Decoder[ControlAnswer] = msgspec.msgpack.Decoder(ControlAnswer)


def request(home: Path, asked: ControlRequest, timeout: float = 30.0) -> ControlAnswer:
    """The answer; OSError if ekiden does not run here or does not answer within ``timeout`` seconds."""
    with Asking(home, timeout) as asking:
        return asking.ask(asked)


def request_of(process: int, home: Path, asked: ControlRequest, timeout: float = 30.0) -> ControlAnswer:
    """The answer of a queue role that is a child of ours; OSError at once if it ends without one.

    Its socket stays open when it is dead, so that the connection alone does not tell.
    """
    ended = os.pidfd_open(process)
    try:
        with Asking(home, timeout) as asking:
            asking.send(asked)
            readable, _, _ = select.select([asking.fileno(), ended], [], [], timeout)
            if asking.fileno() not in readable:
                raise ConnectionError("it has ended" if readable else "timed out")
            return asking.answer()
    finally:
        os.close(ended)


class Asking:
    """A connection to the queue role for several requests, a context manager."""

    def __init__(self, home: Path, timeout: float = 30.0) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(timeout)
        try:
            with short_path(home / "run", "control") as path:
                self._connection.connect(path)
        except OSError:
            self._connection.close()
            raise

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def ask(self, asked: ControlRequest) -> ControlAnswer:
        """Send a request and wait for its answer."""
        self.send(asked)
        return self.answer()

    def fileno(self) -> int:
        """The connection's descriptor, to wait for an answer with."""
        return self._connection.fileno()

    def send(self, asked: ControlRequest) -> None:
        """Send a request."""
        encoded = msgspec.msgpack.encode(asked)
        self._connection.sendall(_LENGTH.pack(len(encoded)) + encoded)

    def answer(self) -> ControlAnswer:
        """Wait for the answer to what was sent."""
        (length,) = _LENGTH.unpack(self._exactly(4))
        return _decoder.decode(self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            data = self._connection.recv(min(1 << 20, count - len(received)))
            if not data:
                raise ConnectionError("the queue process ended without an answer")
            received += data
        return bytes(received)

"""One end of a connection between two of our processes: frames in, frames out, descriptors beside them.

Writes are joined: everything sent during one turn of the event loop leaves in one system call. A link that is not
drained by its peer keeps what it has to say in memory; ``backlog`` tells how much, and whoever produces on behalf of
others (the queue) stops when it grows.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import asyncio

Incoming = TypeVar("Incoming")

_LENGTH = struct.Struct(">I")
_READ = 256 * 1024
_DESCRIPTORS = 250
"""As many as one system call carries (the kernel's limit is 253)."""
_ANCILLARY = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
_CLOSE_ON_EXEC = socket.MSG_CMSG_CLOEXEC
MAXIMUM_FRAME = 64 * 1024 * 1024
"""Octets. A longer frame is a fault of the peer; inline content is far smaller."""
END_OF_FILE = "end of file"
"""The reason of a connection that its other side has closed."""
NO_FRAME = (msgspec.DecodeError, ValueError, RecursionError)
"""What is raised for octets that are no frame; the last for arrays within arrays within arrays."""


class Link(Generic[Incoming]):
    """A connected unix stream socket carrying frames that ``decoder`` accepts.

    ``on_frame(frame, descriptor)`` is called per frame (descriptor is None unless the frame announced one),
    ``on_turn()`` once after all frames of one read, ``on_close(reason)`` once at the end, also for undecodable input.
    ``longest``: octets of a frame that is taken.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        decoder: msgspec.msgpack.Decoder[Incoming],
        on_frame: Callable[[Incoming, int | None], None],
        on_close: Callable[[str], None],
        on_turn: Callable[[], None] | None = None,
        longest: int = MAXIMUM_FRAME,
    ) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._connection = connection
        self._decoder = decoder
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_frame = on_frame
        self._on_close = on_close
        self._on_turn = on_turn
        self._longest = longest
        self._buffer = bytearray(_READ)
        self._filled = 0
        self._descriptors: deque[int] = deque()
        self._outgoing: list[bytes] = []
        self._outgoing_descriptors: list[int] = []
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._flushing = False
        self._waiting_to_write = False
        self.closed = False
        loop.add_reader(connection.fileno(), self._readable)

    @property
    def backlog(self) -> int:
        """Octets accepted by ``send`` that the kernel has not taken yet."""
        return sum(len(data) for data, _ in self._unsent) + sum(map(len, self._outgoing))

    @property
    def is_stalled(self) -> bool:
        """Whether the kernel takes nothing more, because the peer does not read."""
        return self._waiting_to_write

    def send(self, frame: Any, descriptor: int | None = None) -> None:
        """Queue a frame; the descriptor, if any, is sent along and closed here."""
        if self.closed:
            if descriptor is not None:
                os.close(descriptor)
            return
        encoded = self._encode(frame)
        if descriptor is not None:
            if len(self._outgoing_descriptors) == _DESCRIPTORS:
                self._gather()
            self._outgoing_descriptors.append(descriptor)
        self._outgoing.append(_LENGTH.pack(len(encoded)))
        self._outgoing.append(encoded)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self, reason: str = "closed") -> None:
        """End the connection; ``on_close`` is called once."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._connection.fileno())
        if self._waiting_to_write:
            self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        # Whoever is told of frames often holds this link, and is held by it: memory waits for the collector then.
        self._buffer = bytearray()
        self._gather()
        for descriptors in (self._descriptors, *(descriptors for _, descriptors in self._unsent)):
            for descriptor in descriptors:
                os.close(descriptor)
        self._descriptors.clear()
        self._unsent.clear()
        self._on_close(reason)

    def _gather(self) -> None:
        """What was sent so far leaves in one system call, with no more descriptors than one may carry."""
        if self._outgoing:
            self._unsent.append((b"".join(self._outgoing), self._outgoing_descriptors))
            self._outgoing = []
            self._outgoing_descriptors = []

    def _flush(self) -> None:
        self._flushing = False
        if not self.closed:
            self._gather()
            if not self._waiting_to_write:
                self._write()

    def _write(self) -> None:
        """Write until all is gone or the socket is full; then go on when it can take more."""
        try:
            while self._unsent:
                data, descriptors = self._unsent[0]
                sent = self._send_some(data, descriptors)
                if sent < len(data):
                    self._unsent[0] = (data[sent:], [])
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self.close(f"write: {error.strerror}")
            return
        if bool(self._unsent) != self._waiting_to_write:
            self._waiting_to_write = not self._waiting_to_write
            if self._waiting_to_write:
                self._loop.add_writer(self._connection.fileno(), self._write)
            else:
                self._loop.remove_writer(self._connection.fileno())

    def _send_some(self, data: bytes, descriptors: list[int]) -> int:
        if not descriptors:
            return self._connection.send(data)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        sent = self._connection.sendmsg([data], rights)
        for descriptor in descriptors:
            os.close(descriptor)
        return sent

    def _readable(self) -> None:
        """Read what there is once; to the end if the other side is gone.

        When a process dies that had not read all we sent, the socket reports an error, and uvloop calls its reader
        once more and then never again.
        """
        broken = False
        while not self.closed and self._receive():
            broken = broken or bool(self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if not broken:
                return

    def _receive(self) -> bool:
        """Take what one system call gives; False if there was nothing or the connection ended."""
        room = memoryview(self._buffer)[self._filled :]
        try:
            count, ancillary, _flags, _address = self._connection.recvmsg_into([room], _ANCILLARY, _CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.close(f"read: {error.strerror}")
            return False
        finally:
            room.release()
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                self._descriptors.extend(received)
        if not count:
            self.close(END_OF_FILE)
            return False
        try:
            self._take(self._filled + count)
        except NO_FRAME as error:
            self.close(f"bad frame: {error}")
            return False
        if len(self._descriptors) > _DESCRIPTORS:
            self.close("descriptors came that no frame announced")
        if self._on_turn is not None and not self.closed:
            self._on_turn()
        return not self.closed

    def _take(self, end: int) -> None:
        """Hand over every whole frame in the buffer's first ``end`` octets; move the rest to its beginning."""
        start = wanted = 0
        with memoryview(self._buffer) as view:
            while end - start >= 4:
                (length,) = _LENGTH.unpack_from(view, start)
                if length > self._longest:
                    raise ValueError(f"frame of {length} octets")
                wanted = 4 + length
                if end - start < wanted:
                    break
                frame = self._decoder.decode(view[start + 4 : start + wanted])
                start += wanted
                wanted = 0
                self._on_frame(frame, self._descriptor_of(frame))
                if self.closed:
                    return
        self._filled = end - start
        if wanted > len(self._buffer) or (len(self._buffer) > _READ and wanted <= _READ):
            # One that does not fit gets a buffer of its own size for as long as it takes.
            larger = bytearray(max(wanted, _READ))
            larger[: self._filled] = self._buffer[start:end]
            self._buffer = larger
        elif start and self._filled:
            self._buffer[: self._filled] = self._buffer[start:end]

    def _descriptor_of(self, frame: Incoming) -> int | None:
        if not getattr(frame, "has_descriptor", False):
            return None
        if not self._descriptors:
            raise ValueError("announced descriptor is missing")
        return self._descriptors.popleft()

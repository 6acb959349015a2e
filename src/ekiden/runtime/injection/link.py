"""The queue's end of a connection to ``run/inject``, at whose other end anybody may be.

Unlike ``Link``, which it otherwise is, it takes no descriptor (the kernel closes what is sent), keeps no more than
has arrived, reads on only when its answers are read, and ends when a frame does not become whole or nothing is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ekiden.base.envelope import Envelope, Recipient
from ekiden.runtime.frames import Inject, IntakeRequest, Rejected, SpoolRelease, SpoolRequest
from ekiden.runtime.injection.limits import Limits
from ekiden.runtime.link import NO_FRAME, Link

FRAME_SECONDS = 60.0
"""How long a frame may take from its first octet to its last, and an answer until it is read."""

IDLE_SECONDS = 1200.0
"""How long nothing need be asked."""

WRITING_SECONDS = 86_400.0
"""The same for whoever has a spool file: a message may come in as slowly as qmail-queue(8) lets it."""

FREE = 65_536
"""Octets that every connection may have in memory; a longer frame needs a part of what all share."""

_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")
_MOST_RECIPIENTS = 200_000
_SEND_BUFFER = 65_536


class _GuestEnvelope(Envelope, frozen=True, array_like=True, gc=False):
    """An envelope whose recipients are counted before they become objects."""

    recipients: Annotated[list[Recipient], msgspec.Meta(max_length=_MOST_RECIPIENTS)]


class _GuestInject(Inject, frozen=True, tag=1):
    envelope: _GuestEnvelope


GuestRequest = _GuestInject | SpoolRequest | SpoolRelease
"""What is understood of a peer whom nobody knows."""


class InjectLink(Link[IntakeRequest]):
    """See the module; ``granted`` are the names of the spool files that the peer has. Call ``admit`` first."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        limits: Limits,
        granted: set[str],
        on_frame: Callable[[IntakeRequest, int | None], None],
        on_close: Callable[[str], None],
    ) -> None:
        super().__init__(loop, connection, msgspec.msgpack.Decoder(GuestRequest), on_frame, on_close)
        self.uid = peer_uid(connection)
        self.granted = granted
        self._limits = limits
        self._buffer = bytearray()
        self._paused = False
        self._began = self._stirred = loop.time()

    @property
    def may_have_file(self) -> bool:
        """Whether this user may be granted one more spool file."""
        return self._limits.may_have_file(self.uid)

    def send(self, frame: Any, descriptor: int | None = None) -> None:
        """As ``Link.send``; a descriptor leaves at once, so that none is kept for a peer that does not read."""
        super().send(frame, descriptor)
        if descriptor is not None and not self.closed:
            self._flush()

    def admit(self) -> None:
        """Count this connection, or send it away."""
        reason = self._limits.refusal(self.uid)
        if reason:
            self.refuse("4.3.2", reason)
            return
        # What is answered and not read is the kernel's memory; it need not be much.
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._limits.entered(self)

    def refuse(self, status: str, text: str) -> None:
        """Say why, as far as the socket takes it, and close. The answer to whatever the peer asks first."""
        encoded = self._encode(Rejected(0, 451 if status[0] == "4" else 554, status, text))
        with contextlib.suppress(OSError):
            self._connection.send(_LENGTH.pack(len(encoded)) + encoded)
        self.close(text)

    def close(self, reason: str = "closed") -> None:
        """End the connection and give back what it had of the shared memory."""
        if not self.closed:
            self._pause()
            super().close(reason)
            self._limits.left(self)

    def resume(self) -> None:
        """There is room for the frame, or for answers, again."""
        if self._paused and not self.closed:
            self._paused = False
            self._loop.add_reader(self._connection.fileno(), self._readable)

    def check(self, now: float) -> None:
        """Close what has taken too long. ``now`` is the loop's time."""
        if not self._paused:
            # What waits in the socket because the queue was busy is not the peer's fault.
            self._readable()
        if self.closed:
            return
        if self._waiting_to_write and now - self._stirred > FRAME_SECONDS:
            self.close("answers are not read")
        elif self._buffer and now - self._began > FRAME_SECONDS:
            self.close("frame not finished in time")
        elif now - self._stirred > (WRITING_SECONDS if self.granted else IDLE_SECONDS):
            self.close("nothing was asked for a long time")

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._loop.remove_reader(self._connection.fileno())

    def _write(self) -> None:
        super()._write()
        if self.closed:
            return
        if self._waiting_to_write:
            self._pause()
        elif self._paused:
            # Not at once: this may be an answer to a frame that is being handed over.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._paused and not self.closed:
            self._proceed()

    def _readable(self) -> None:
        try:
            data = self._connection.recv(FREE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(f"read: {error.strerror}")
            return
        if not data:
            self.close("end of file")
            return
        self._stirred = self._loop.time()
        if not self._buffer:
            self._began = self._stirred
        self._buffer += data
        self._proceed()

    def _proceed(self) -> None:
        """Hand over the whole frames, then see whether the rest may be read."""
        try:
            wanted = self._hand_over()
        except NO_FRAME as error:
            self.close(f"bad frame: {error}")
            return
        if self.closed:
            return
        if wanted > FREE and len(self._buffer) >= FREE // 2 and not self._limits.reserve(self, wanted):
            self._pause()
        elif not self._waiting_to_write:
            self.resume()

    def _hand_over(self) -> int:
        """Every whole frame, as long as answers are read; the octets that the next one has in all, 0 if unknown."""
        start = wanted = 0
        while not self._waiting_to_write and len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self._limits.frame:
                self.refuse("5.3.4", f"a frame of {length} octets is too long")
                return 0
            wanted = _LENGTH.size + length
            if len(self._buffer) - start < wanted:
                break
            with memoryview(self._buffer) as view:
                frame = self._decoder.decode(view[start + _LENGTH.size : start + wanted])
            start += wanted
            wanted = 0
            self._on_frame(frame, None)
            if self.closed:
                return 0
        if start:
            del self._buffer[:start]
            self._began = self._loop.time()
            self._limits.release(self)
        return wanted


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a unix socket, as the kernel knows it (unix(7), SO_PEERCRED)."""
    return peer(connection)[1]


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a unix socket when it was connected (unix(7), SO_PEERCRED)."""
    pid, uid, _gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid

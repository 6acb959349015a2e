"""Messages that a process of ours queues for its user: forwards of local deliveries, through ``run/inject``.

Many can be under way on one connection. The connection is made when it is first needed, and again after it was lost;
what was under way then is not queued as far as anybody knows, and must be tried again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from ekiden.base.dates import utc_date
from ekiden.base.envelope import Envelope, Origin, Recipient
from ekiden.runtime.frames import Accepted, Inject, IntakeAnswer, Rejected, SpoolGrant, SpoolRelease, SpoolRequest
from ekiden.runtime.link import Link


class NotQueued:
    """Why a message was not queued: text without status, enhanced status code, and whether it is of use to retry."""

    __slots__ = ("permanent", "status", "text")

    def __init__(self, text: str, status: str, permanent: bool = False) -> None:
        self.text = text
        self.status = status
        self.permanent = permanent


Ended = Callable[[int | NotQueued], None]


class _Message:
    """One message under way."""

    __slots__ = ("chunks", "ended", "envelope", "front", "size")

    def __init__(self, envelope: Envelope, front: bytes, chunks: Iterator[bytes], ended: Ended) -> None:
        self.envelope = envelope
        self.front = front
        self.chunks = chunks
        self.ended = ended


class Injection:
    """A way into the queue. ``connect`` gives a new connection to ``run/inject``; ``inline`` octets fit a frame."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Callable[[], socket.socket], inline: int) -> None:
        self._loop = loop
        self._connect = connect
        self._inline = inline
        self._link: Link[IntakeAnswer] | None = None
        self._tokens = 0
        self._messages: dict[int, _Message] = {}

    def inject(
        self,
        envelope: Envelope,
        recipients: Sequence[bytes],
        invoker: bytes,
        field: bytes,
        wire: Callable[[], Iterable[bytes]],
        ended: Ended,
    ) -> None:
        """Queue ``field`` (a header field ended by LF) and the content of ``wire`` (pieces in wire form).

        A Received field in qmail-queue's form goes before; ``invoker`` is who it says invoked us. ``ended`` is called
        once: with this process's id, which is the message's ``qp`` in the log, when the queue has the message.
        """
        envelope = Envelope(
            envelope.sender, [Recipient(each) for each in recipients], envelope.body, envelope.smtputf8
        )
        front = b"Received: (qmail %d invoked by %b); %b\r\n" % (os.getpid(), invoker, utc_date(time.time()))
        message = _Message(envelope, front + field[:-1] + b"\r\n", iter(wire()), ended)
        try:
            link = self._link or self._open()
            self._tokens += 1
            self._messages[self._tokens] = message
            self._begin(link, self._tokens, message)
        except OSError as error:
            self._messages.pop(self._tokens, None)
            ended(NotQueued(f"{error.strerror or error}", "4.3.0"))

    def _open(self) -> Link[IntakeAnswer]:
        decoder = msgspec.msgpack.Decoder(IntakeAnswer)
        self._link = Link(self._loop, self._connect(), decoder, self._answered, self._lost)
        return self._link

    def _begin(self, link: Link[IntakeAnswer], token: int, message: _Message) -> None:
        """Send a small message whole; ask for a file for a large one."""
        content = bytearray(message.front)
        for chunk in message.chunks:
            content += chunk
            if len(content) > self._inline:
                message.front = bytes(content)
                link.send(SpoolRequest(token))
                return
        link.send(Inject(token, message.envelope, _origin(), bytes(content)))

    def _answered(self, frame: IntakeAnswer, descriptor: int | None) -> None:
        if isinstance(frame, SpoolGrant):
            self._granted(frame, descriptor)
            return
        message = self._messages.pop(frame.token, None)
        if message is None:
            return
        if isinstance(frame, Accepted):
            message.ended(os.getpid())
        elif isinstance(frame, Rejected):
            message.ended(NotQueued(frame.text, frame.status, permanent=frame.code >= 500))

    def _granted(self, grant: SpoolGrant, descriptor: int | None) -> None:
        message = self._messages.get(grant.token)
        if descriptor is None or self._link is None:
            return
        if message is None:
            os.close(descriptor)
            return
        try:
            size = _write(descriptor, message)
        except OSError as error:
            del self._messages[grant.token]
            self._link.send(SpoolRelease(grant.spool))
            message.ended(NotQueued(f"unable to write the spool file: {error.strerror}", "4.3.1"))
            return
        finally:
            os.close(descriptor)
        self._link.send(Inject(grant.token, message.envelope, _origin(), b"", grant.spool, size))

    def _lost(self, _reason: str) -> None:
        self._link = None
        messages, self._messages = self._messages, {}
        for message in messages.values():
            message.ended(NotQueued("the queue does not answer", "4.3.0"))


def _write(descriptor: int, message: _Message) -> int:
    """Write the content durably; its size in octets."""
    with open(descriptor, "wb", closefd=False) as file:
        size = file.write(message.front)
        for chunk in message.chunks:
            size += file.write(chunk)
        file.flush()
        os.fsync(descriptor)
    return size


def _origin() -> Origin:
    return Origin("local", os.getpid(), os.getuid())

"""A connection to a next hop: an asyncio protocol around the SMTP client's engine.

One sweeping timer per process ends what takes too long: a session only notes its deadline. Nothing here creates a
task for a message.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast
from zlib import crc32

from ekiden.base.outcome import Outcome
from ekiden.delivery.remote import (
    DAMAGED,
    NO_CONNECTION,
    NO_RESOURCES,
    PIECE,
    UNREADABLE,
    Job,
    Tls,
    is_slow,
    prepare,
)
from ekiden.delivery.remote_limits import QUIT_SECONDS
from ekiden.wire.smtp.client import Client, Done, Event, Lost, Ready, StartTls, State


class Owner(Protocol):
    """Whoever hands out jobs and takes what comes of them."""

    def session_done(self, session: Session, job: Job, outcomes: list[Outcome]) -> None: ...

    def session_lost(self, session: Session, job: Job | None, outcome: Outcome) -> None: ...

    def session_closed(self, session: Session) -> None: ...

    def make_tls(self, session: Session) -> Tls: ...


class Session(asyncio.Protocol):
    """``timeouts`` is seconds by State; ``host`` and ``address`` are the next hop's, for TLS.

    ``opened`` gets None once messages may go, or the Outcome that says why none will.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        client: Client,
        timeouts: tuple[float, ...],
        destination: bytes,
        host: str = "",
        address: str = "",
    ) -> None:
        self._loop = loop
        self._owner = owner
        self.client = client
        self._timeouts = timeouts
        self.destination = destination
        self.host = host
        self.address = address
        self.opened: asyncio.Future[Outcome | None] = loop.create_future()
        self.job: Job | None = None
        self.used = 0
        self.deadline = loop.time() + timeouts[State.GREETING]
        self.tls_failed = False
        self.verifies = False
        """Whether the next hop must show a certificate that this host trusts."""
        self.failure = NO_CONNECTION
        """What ended the session while it had no job."""
        self.kept = False
        """Whether it has carried or waited for a message, and may have died unnoticed since."""
        self.employed = False
        """Whether the owner counts it among its destination's sessions."""
        self._tls: Tls | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._offset = 0
        self._checksum = 0
        self._preparing = False
        self._lost: Outcome | None = None

    # What the owner calls

    def start(self, job: Job) -> None:
        """Send a message; the session must be idle."""
        self.job = job
        self.used += 1
        if is_slow(job, self.client.extensions):
            self.deadline = self._loop.time() + self._timeouts[State.SENT]
            self._preparing = True
            future = self._loop.run_in_executor(None, prepare, job, self.client.extensions)
            future.add_done_callback(self._prepared)
            return
        try:
            self._send(job, prepare(job, self.client.extensions))
        except OSError:
            self._send(job, UNREADABLE)

    def quit(self) -> None:
        """Take leave of an idle session."""
        self.client.quit()
        self.deadline = self._loop.time() + QUIT_SECONDS
        self._flush()

    def expire(self) -> None:
        """The deadline has passed."""
        if self.client.state is State.READY and self.job is None:
            self.quit()
            return
        self.abort(f"No answer within {self._timeouts[self.client.state]:.0f} seconds.")

    def abort(self, why: str) -> None:
        """End the connection without ceremony; ``why`` is a sentence for the report."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self.client.lost(why)
        self._serve()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
            if not data:
                return
        before = client.replies
        client.receive(data)
        self._serve()
        if client.replies != before:
            self.deadline = self._loop.time() + self._timeouts[client.state]

    def eof_received(self) -> None:
        self.client.lost()
        self._serve()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.client.lost(f"{exc.strerror}." if isinstance(exc, OSError) and exc.strerror else "")
        self._serve()
        self._owner.session_closed(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.deadline = self._loop.time() + self._timeouts[self.client.state]
        if self.client.state is State.CONTENT:
            self._pump()

    # Events

    def _serve(self) -> None:
        client = self.client
        while (event := client.next_event()) is not None:
            if type(event) is Done:
                job, self.job = self.job, None
                self._flush()
                if job is not None:
                    job.close()
                    self._owner.session_done(self, job, event.outcomes)
            else:
                self._serve_other(event)
        self._flush()

    def _serve_other(self, event: Event) -> None:
        if isinstance(event, Ready):
            if not self.opened.done():
                self.opened.set_result(None)
        elif isinstance(event, StartTls):
            self._flush()
            self._tls = self._owner.make_tls(self)
            self._write_raw(self._tls.start())
        elif isinstance(event, Lost):
            self.tls_failed = event.over_tls
            if not self.opened.done():
                self.opened.set_result(event.outcome)
            elif self._preparing:
                self._lost = event.outcome  # a thread still reads the job's file
            else:
                job, self.job = self.job, None
                self._owner.session_lost(self, job, event.outcome)
        else:
            self._offset = self._checksum = 0
            self._pump()

    def _flush(self) -> None:
        output = self.client.output()
        if output:
            self._write_raw(output if self._tls is None or not self._tls.established else self._tls.send(output))
        if self.client.state is State.CLOSED and self._transport is not None and not self._transport.is_closing():
            # What is still to be sent is sent first; if the server does not read, the deadline ends that.
            self.deadline = self._loop.time() + self._timeouts[State.CLOSED]
            self._transport.close()

    def _write_raw(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def _prepared(self, future: asyncio.Future[Outcome | None]) -> None:
        job = self.job
        assert job is not None
        self._preparing = False
        if self._lost is not None:
            self.job = None
            self._owner.session_lost(self, job, self._lost)
            return
        failure = future.exception()
        if failure is None:
            self._send(job, future.result())
        else:
            self._send(job, UNREADABLE if isinstance(failure, OSError) else NO_RESOURCES)

    def _send(self, job: Job, impossible: Outcome | None) -> None:
        client = self.client
        if impossible is not None:
            # Nothing was said about this message: the session is as good as before.
            self.job = None
            job.close()
            outcomes = [impossible] * len(job.envelope.recipients)
            self._loop.call_soon(self._owner.session_done, self, job, outcomes)
            return
        client.send(job.envelope, job.content, job.size, job.body, job.utf8)
        self.deadline = self._loop.time() + self._timeouts[client.state]
        if client.state is State.MAIL or client.state is State.RESET:
            self._flush()
        else:
            self._loop.call_soon(self._serve)

    def _pump(self) -> None:
        """Send the next piece of a large content; one per turn of the loop, as long as the connection takes them."""
        job, client = self.job, self.client
        if job is None or self._paused or client.state is not State.CONTENT:
            return
        try:
            piece = job.piece(self._offset, min(PIECE, job.size - self._offset))
        except OSError:
            piece = b""
        self._offset += len(piece)
        if (fault := self._fault(job, piece)) is not None:
            # Without its end the server has no message.
            client.give_up(fault)
            self._serve()
            return
        client.content(piece)
        if self._offset >= job.size:
            client.content_end()
        else:
            self._loop.call_soon(self._pump)
        self._flush()
        self.deadline = self._loop.time() + self._timeouts[client.state]

    def _fault(self, job: Job, piece: bytes) -> Outcome | None:
        """Why the message must not go on after this piece."""
        if not piece and self._offset < job.size:
            return UNREADABLE
        if job.checksum:
            self._checksum = crc32(piece, self._checksum)
            if self._offset >= job.size and self._checksum != job.checksum:
                return DAMAGED
        return None

    def _decrypt(self, tls: Tls, data: bytes) -> bytes:
        """Take octets off the connection; the plain ones they hold. Ends the session if TLS is broken."""
        handshaking = not tls.established
        try:
            plain, answer = tls.receive(data)
        except ssl.SSLError as error:
            self.client.lost(f"TLS failed: {error.reason or error}.")
            self._serve()
            return b""
        self._write_raw(answer)
        if handshaking and tls.established:
            self.client.tls_established()
            self.deadline = self._loop.time() + self._timeouts[State.EHLO]
            self._flush()
        return plain

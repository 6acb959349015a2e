"""One message on its way into the queue, in memory while it is small, in a spool file when it is not.

    deposit = Deposit(intake, on_room)
    deposit.write(chunk) ...                        # any number; CRLF lines, not dot-stuffed
    deposit.commit(envelope, origin, on_answer)     # or deposit.abort()

``on_answer`` is called once, later, with ``Accepted`` (the message is durable) or ``Rejected``. Content up to the
intake's ``inline`` octets travels in the frame; more goes to a file that the queue grants, written and fsynced in
threads. Whoever reads from the network stops while ``full`` and goes on when ``on_room`` is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

from ekiden.base.envelope import Envelope, Origin
from ekiden.runtime.frames import Rejected, SpoolGrant

if TYPE_CHECKING:
    import asyncio

    from ekiden.runtime.intake import Intake, OnAnswer

ROOM_OCTETS = 1 << 20
"""What a deposit holds unwritten before it is ``full``."""


class Deposit:
    """One message on its way into the queue."""

    __slots__ = (
        "_checksum",
        "_chunks",
        "_commit",
        "_descriptor",
        "_fault",
        "_intake",
        "_on_room",
        "_over",
        "_spool",
        "_spooling",
        "_synced",
        "_unwritten",
        "_working",
        "size",
    )

    def __init__(self, intake: Intake, on_room: Callable[[], None]) -> None:
        self._intake = intake
        self._on_room = on_room
        self._chunks: list[bytes] = []
        self._unwritten = 0
        self._checksum = 0
        self._spooling = False
        self._working = False
        self._synced = False
        self._over = False
        self._spool = ""
        self._descriptor = -1
        self._fault: Rejected | None = None
        self._commit: Callable[[], None] | None = None
        self.size = 0

    @property
    def full(self) -> bool:
        """Whether to stop writing until ``on_room`` is called."""
        return self._spooling and self._unwritten > ROOM_OCTETS

    def write(self, chunk: bytes) -> None:
        """More content."""
        self.size += len(chunk)
        if self._fault is not None:
            return
        self._chunks.append(chunk)
        self._unwritten += len(chunk)
        if self._spooling:
            self._work()
        elif self.size > self._intake.inline:
            self._spooling = True
            self._working = True
            self._intake.request_spool(self._granted)

    def commit(self, envelope: Envelope, origin: Origin, on_answer: OnAnswer) -> None:
        """The content is complete: queue it for this envelope."""
        if not self._spooling:
            self._over = True
            self._intake.inject(envelope, origin, b"".join(self._chunks), on_answer)
            return

        def inject() -> None:
            if self._over:
                return
            self._over = True
            self._close()
            if self._fault is not None:
                self._release()
                on_answer(self._fault)
            else:
                self._intake.inject(envelope, origin, b"", on_answer, self._spool, self.size, self._checksum)

        self._commit = inject
        self._work()

    def abort(self) -> None:
        """The message is not to be queued. After ``commit`` of an inline message this does nothing."""
        if self._over:
            return
        self._over = True
        self._commit = None
        self._chunks.clear()
        if not self._working:
            self._finish_aborted()

    def _granted(self, grant: SpoolGrant | Rejected, descriptor: int) -> None:
        self._working = False
        if isinstance(grant, Rejected):
            self._fail(grant)
        else:
            self._spool, self._descriptor = grant.spool, descriptor
        if self._over:
            self._finish_aborted()
        else:
            self._work()

    def _work(self) -> None:
        """Write what there is, one thread at a time; at the end fsync and inject."""
        if self._working:
            return
        if self._fault is not None or (not self._chunks and self._commit is None):
            if self._commit is not None:
                commit, self._commit = self._commit, None
                self._intake.loop.call_soon(commit)
            return
        chunks, self._chunks = self._chunks, []
        self._working = True
        self._synced = self._commit is not None
        try:
            job = self._intake.loop.run_in_executor(
                self._intake.writers, _write, self._descriptor, chunks, self._synced, self._checksum
            )
        except RuntimeError as error:
            self._threadless(chunks, error)
            return
        job.add_done_callback(self._written)

    def _threadless(self, chunks: list[bytes], error: RuntimeError) -> None:
        """There is no memory for a thread. One that there is may still find this job, and then nothing in it."""
        chunks.clear()
        # Not closed: such a thread would write into whatever has its number next.
        self._working, self._descriptor = False, -1
        self._fault = Rejected(0, 452, "4.3.1", f"unable to write the message: {error}")
        self._unwritten = 0
        self._intake.loop.call_soon(self._on_room)
        if self._over:
            self._finish_aborted()
        else:
            self._work()

    def _written(self, job: asyncio.Future[tuple[int, int]]) -> None:
        self._working = False
        # Not raised here: its traceback would hold this call, with it the job, and so itself and all the content.
        error = job.exception()
        if error is not None:
            # Mostly the device's, but there may be no memory for the chunks either.
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            self._fail(Rejected(0, 452, "4.3.1", f"unable to write the message: {reason}"))
        else:
            written, self._checksum = job.result()
            self._unwritten -= written
        if self._over:
            self._finish_aborted()
            return
        if self._commit is not None and self._synced and self._fault is None:
            commit, self._commit = self._commit, None
            commit()
            return
        self._work()
        if not self.full:
            self._on_room()

    def _fail(self, fault: Rejected) -> None:
        self._fault = fault
        self._chunks.clear()
        self._unwritten = 0
        self._on_room()

    def _finish_aborted(self) -> None:
        self._close()
        self._release()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _release(self) -> None:
        if self._spool:
            self._intake.release_spool(self._spool)


def _write(descriptor: int, chunks: list[bytes], last: bool, checksum: int) -> tuple[int, int]:
    """In a thread: append the chunks, and make the file durable after the last one.

    Returns their octets, and the CRC-32 so far.
    """
    data = memoryview(b"".join(chunks))
    total, checksum = len(data), crc32(data, checksum)
    while data:
        data = data[os.write(descriptor, data) :]
    if last:
        os.fsync(descriptor)
    return total, checksum

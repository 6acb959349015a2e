"""One message on its way into the queue from a program that waits: ``deposit.Deposit`` for a process per connection.

Goes to the running queue process (or, while ekiden does not run, into the store, for whoever may write it), or to the
program that stands for qmail-queue. Content up to so many octets waits in memory, more in a file. ``commit`` calls
back before it returns.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Protocol

from ekiden.runtime.classic.submission import is_replaced, run_program
from ekiden.runtime.frames import Accepted, Rejected
from ekiden.runtime.injection.client import door
from ekiden.runtime.injection.door import WRITE_ERROR, Body, NotQueued
from ekiden.wire.carriage import without_cr

if TYPE_CHECKING:
    from ekiden.base.envelope import Envelope, Origin
    from ekiden.runtime.injection.door import Door

OnAnswer = Callable[[Accepted | Rejected], None]

_STATUS = re.compile(r"(.*) \(#([245]\.\d{1,3}\.\d{1,3})\)", re.DOTALL | re.ASCII)


class Depositing(Protocol):
    """What receives a message's content in wire form, then its envelope; see ``deposit``."""

    @property
    def full(self) -> bool:
        """Whether to stop writing."""

    def write(self, chunk: bytes) -> None:
        """More content."""

    def commit(self, envelope: Envelope, origin: Origin, on_answer: OnAnswer) -> None:
        """The content is complete: queue it for this envelope."""

    def abort(self) -> None:
        """The message is not to be queued."""


class Deposits:
    """Opens deposits. ``foreign``: they go to another program than ours, which adds its own trace field."""

    def __init__(self, home: str, inline: int) -> None:
        self.foreign = is_replaced(home)
        self._home = home
        self._inline = inline

    def open(self, _on_room: Callable[[], None]) -> Depositing:
        """A new deposit."""
        return (_ProgramDeposit if self.foreign else _QueueDeposit)(self._home, self._inline)


class _Waiting:
    """A deposit without its goal. What goes wrong is kept until the end, because the client is told then."""

    full = False

    def __init__(self, home: str, inline: int) -> None:
        self._home = home
        self._inline = inline
        self._start = bytearray()
        self._file: IO[bytes] | None = None
        self._fault: NotQueued | None = None
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """More content."""
        if self._fault is not None:
            return
        self._size += len(chunk)
        try:
            if self._file is not None:
                self._file.write(chunk)
                return
            self._start += chunk
            if self._size > self._inline:
                self._file = self._open_file()
                self._file.write(self._start)
                self._start.clear()
        except OSError as error:
            self._fault = NotQueued(WRITE_ERROR, f"unable to write message: {error.strerror} (#4.3.0)")
        except NotQueued as fault:
            self._fault = fault

    def commit(self, envelope: Envelope, origin: Origin, on_answer: OnAnswer) -> None:
        """Queue it, and say how that went, before this returns."""
        answer: Accepted | Rejected
        try:
            if self._fault is not None:
                raise self._fault
            answer = Accepted(0, self._queue(envelope, origin))
        except NotQueued as fault:
            answer = rejected(fault)
        except OSError as error:
            answer = rejected(NotQueued(WRITE_ERROR, f"unable to write message: {error.strerror} (#4.3.0)"))
        finally:
            self.abort()
        on_answer(answer)

    def abort(self) -> None:
        """Give up what is not queued."""
        self._start.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _open_file(self) -> IO[bytes]:
        raise NotImplementedError

    def _queue(self, envelope: Envelope, origin: Origin) -> int:
        """What the log shows as ``qp``."""
        raise NotImplementedError


class _QueueDeposit(_Waiting):
    """Goes into the queue of this home."""

    _door: Door | None = None
    _spool = ""

    def abort(self) -> None:
        """As above; the queue process removes a file that it granted when the connection ends."""
        super().abort()
        if self._door is not None:
            self._door.close()
            self._door = None

    def _open_file(self) -> IO[bytes]:
        self._door = door(self._home)
        self._spool, descriptor = self._door.grant()
        return open(descriptor, "wb")

    def _queue(self, envelope: Envelope, origin: Origin) -> int:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._door is None:
            self._door = door(self._home)
        body = Body(bytes(self._start), bool(envelope.body), self._size, self._spool)
        self._door.queue_envelope(envelope, origin.pid, body)
        return origin.pid


class _ProgramDeposit(_Waiting):
    """Goes to the program that stands for qmail-queue, with LF at the ends of lines."""

    def _open_file(self) -> IO[bytes]:
        import tempfile

        return tempfile.TemporaryFile()

    def _queue(self, envelope: Envelope, origin: Origin) -> int:
        recipients = [recipient.address for recipient in envelope.recipients]
        return run_program(self._home, envelope.sender, recipients, without_cr(self._pieces()))

    def _pieces(self) -> Iterator[bytes]:
        if self._file is None:
            yield bytes(self._start)
            return
        self._file.seek(0)
        while piece := self._file.read(1 << 18):
            yield piece


def rejected(fault: NotQueued) -> Rejected:
    """What a client is told; the enhanced status at the text's end is told apart."""
    code, fallback = (554, "5.3.0") if fault.permanent else (451, "4.3.0")
    found = _STATUS.fullmatch(str(fault))
    if found is None or found[2][0] != fallback[0]:
        return Rejected(0, code, fallback, str(fault))
    return Rejected(0, code, found[2], found[1])

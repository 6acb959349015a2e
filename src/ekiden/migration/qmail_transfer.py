"""Messages of a qmail queue into ours, each once, whatever happens meanwhile.

qmail-send must not run; its lock is held meanwhile. For each message:

1. its files are read;
2. it is in our queue, durably, with a key that names it; so is the bounce that its sender has not got yet;
3. its files are moved to ``taken/``, the envelope first and the content last.

A crash before 2 has changed nothing; after it, the next run finds the key, takes nothing, and goes on with 3. Nothing
is removed, so that the numbers, which are inodes, stay taken too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from ekiden.base.envelope import Body, Envelope, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.delivery.maildir import sync_directory
from ekiden.migration.finding import Place, Report
from ekiden.migration.qmail_queue import PARTS, Damaged, QmailQueue, QueuedMessage
from ekiden.queue.bounce import Notice, compose
from ekiden.queue.dsn import Original, named
from ekiden.queue.intake import Foreign
from ekiden.queue.store import Ended
from ekiden.runtime.injection.direct import Direct
from ekiden.runtime.injection.door import NotQueued
from ekiden.settings.schema import Settings

TAKEN = "taken"
WHENCE = "qmail-queue"
"""What our books say where these messages came in."""


class Busy(Exception):
    """A qmail-send has the queue."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """qmail-send's own lock. Raises Busy and OSError; a queue without the file has never been run."""
    path = directory / "lock" / "sendmutex"
    if not path.exists():
        yield
        return
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy from None
        yield


class Transfer:
    """Takes messages over one by one. Without ``queue`` it only says what would be done."""

    def __init__(self, source: QmailQueue, queue: Direct | None, settings: Settings, report: Report) -> None:
        self._source = source
        self._queue = queue
        self._settings = settings
        self._report = report
        self.messages = self.recipients = self.octets = self.bounces = self.again = 0

    def take(self, number: int) -> None:
        """One message; what is wrong with it is reported."""
        place = Place(str(self._source.directory / "mess" / str(number)))
        try:
            self._take(number, self._source.read(number), place)
        except (Damaged, NotQueued) as error:
            self._report.left(place, str(error), "it stays where it is")
        except OSError as error:
            self._report.left(place, f"{error.filename or place.file}: {error.strerror}", "it stays where it is")

    def _take(self, number: int, message: QueuedMessage, place: Place) -> None:
        content = message.content.replace(b"\n", b"\r\n")
        whole = hashlib.sha256(b"%d\0%b\0" % (int(message.birth), message.sender) + message.content).hexdigest()
        key = f"qmail:{number}:{whole}".encode()
        envelope = self._envelope(message)
        said = f"{len(envelope.recipients)} recipients, {len(content)} octets, CRC-32 {crc32(content):08x}"
        if envelope.recipients:
            said += self._put(Foreign(key, message.birth), envelope, content)
        notice = self._notice(number, message, content)
        if notice is not None:
            self._put(Foreign(key + b":bounce", time.time()), notice.envelope, notice.content)
            self.bounces += 1
            said += f", and a bounce about {len(message.failures)} recipients"
        if self._queue is not None:
            self._put_aside(number)
        self.messages += 1
        self.recipients += len(envelope.recipients)
        self.octets += len(content)
        self._report.carried(place, said)

    def _put(self, foreign: Foreign, envelope: Envelope, content: bytes) -> str:
        """Into our queue, and look whether it is there; in words. Raises NotQueued, Damaged."""
        if self._queue is None:
            return ""
        taken, new = self._queue.take_over(foreign, envelope, content, WHENCE)
        self.again += not new
        # A bounce is dated, so that one of an earlier run may differ.
        if new and self._queue.checksum(taken) != crc32(content):
            raise Damaged(f"message {taken} in the queue has another content than it")
        return f" as message {taken}" + ("" if new else ", by an earlier run")

    def _envelope(self, message: QueuedMessage) -> Envelope:
        """For those who are still to get it, under the names that they had outside."""
        own = [named(self._settings, address) for address in message.local]
        recipients = [Recipient(address) for address in (*own, *message.remote, *message.unsorted)]
        return Envelope(message.sender, recipients, Body.SEVENBIT if message.content.isascii() else Body.EIGHTBIT)

    def _notice(self, number: int, message: QueuedMessage, content: bytes) -> Notice | None:
        """The bounce that qmail-send was going to write."""
        if not message.failures:
            return None
        ended = [
            Ended(Recipient(failure.recipient), Outcome(Verdict.FAILED, "5.0.0", failure.report))
            for failure in message.failures
        ]
        original = Original(number, message.birth, message.sender, content, len(content))
        return compose(self._settings, original, ended, time.time(), os.getpid())

    def _put_aside(self, number: int) -> None:
        put_aside(self._source, number)


def put_aside(source: QmailQueue, number: int) -> None:
    """Out of qmail's sight, durably, in the order of ``PARTS``. OSError."""
    for part in PARTS:
        path = source.files[part].get(number)
        if path is None:
            continue
        beside = source.directory / TAKEN / part
        beside.mkdir(parents=True, exist_ok=True)
        path.rename(beside / path.name)
        for directory in (beside, path.parent):
            sync_directory(os.fsencode(directory))


def finish(source: QmailQueue) -> int:
    """Put aside what a run that was interrupted has left of messages it had taken; how many they were."""
    taken = QmailQueue(source.directory / TAKEN)
    envelopes = taken.files["todo"].keys() | taken.files["info"].keys()
    left = sorted(set(source.unfinished()) & envelopes)
    for number in left:
        put_aside(source, number)
    return len(left)

"""The way into the queue while ekiden does not run: open the store, put the message in, close it.

For whoever may write the queue's directory. The queue's lock is held meanwhile, so that a queue process that starts
now, or another injection, waits or says that the queue is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from ekiden.base.envelope import Body as BodyKind
from ekiden.base.envelope import Envelope, Origin, Recipient
from ekiden.base.outcome import Outcome
from ekiden.base.reply import Reply
from ekiden.queue.engine import Engine
from ekiden.queue.intake import Answer, Arrival, Foreign
from ekiden.queue.lane import Part
from ekiden.queue.scheduler import channel_of
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import MessageRow, RowDamaged, StoreFailed, StoreFull
from ekiden.runtime.administration import Administration
from ekiden.runtime.host_table import HostTable
from ekiden.runtime.injection.door import (
    CONFIGURATION,
    QUEUE_TROUBLE,
    WRITE_ERROR,
    Body,
    Letter,
    NotQueued,
    refusal,
)
from ekiden.runtime.locks import hold_queue
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError

LOCK_SECONDS = 10.0
"""How long to wait for another who has the queue."""

PAGE = 200
"""Messages looked at together."""


class QueueTaken(NotQueued):
    """Another process has the queue, as one does that starts or ends."""


class Direct:
    """The store, ours until ``close``."""

    def __init__(self, home: str) -> None:
        directory = Path(home, "queue")
        try:
            self._settings = read(Path(home, "control"))
            self._lock = hold_queue(directory, LOCK_SECONDS)
        except SettingsError as error:
            raise NotQueued(CONFIGURATION, f"unable to read the configuration: {error} (#4.3.0)") from None
        except OSError as error:
            kind = QueueTaken if isinstance(error, BlockingIOError) else NotQueued
            raise kind(QUEUE_TROUBLE, f"unable to lock the queue: {error.strerror} (#4.3.0)") from None
        try:
            self._store = SQLiteStore(directory, self._settings.checkpointpages)
        except (OSError, StoreFailed) as error:
            os.close(self._lock)
            raise NotQueued(QUEUE_TROUBLE, f"unable to open the queue: {error} (#4.3.0)") from None
        self._queue = directory
        give_to_owner(directory)
        self._granted: list[str] = []

    def close(self) -> None:
        """Leave the store as the queue process does."""
        for name in self._granted:
            self._store.unlink_spool(name)
        give_to_owner(self._queue)
        self._store.close()
        os.close(self._lock)

    def grant(self) -> tuple[str, int]:
        """A new spool file."""
        name = f"{time.time_ns():x}-{os.getpid():x}-{len(self._granted):x}"
        try:
            descriptor = self._store.create_spool(name)
        except OSError as error:
            raise NotQueued(WRITE_ERROR, f"unable to make a spool file: {error.strerror} (#4.3.1)") from None
        self._granted.append(name)
        return name, descriptor

    def queue(self, letter: Letter, body: Body) -> int:
        """Put the message into the store; what is due is attempted when ekiden starts."""
        return self.queue_envelope(_envelope(letter, body), letter.pid, body)

    def queue_envelope(self, envelope: Envelope, pid: int, body: Body) -> int:
        """Likewise, with each recipient's own wishes."""
        origin = Origin("local", pid, os.getuid())
        now = time.time()
        arrival = Arrival(envelope, origin, body.inline, body.spool, body.size)
        number = self._commit(lambda engine, answer: engine.accept(arrival, now, answer), now)
        if body.spool:
            self._granted.remove(body.spool)
        return number

    def _commit(self, queue: Callable[[Engine, Answer], None], now: float) -> int:
        """Have one message queued; its id. Raises NotQueued."""
        engine = Engine(self._settings, self._store, SILENCE, NOBODY)
        engine.stopping = True
        answers: list[int | Reply] = []
        try:
            queue(engine, answers.append)
            engine.turn(now)
        except (StoreFull, StoreFailed) as error:
            raise NotQueued(WRITE_ERROR, f"unable to write the queue: {error} (#4.3.0)") from None
        (answer,) = answers
        if isinstance(answer, Reply):
            raise refusal(answer.code, answer.status, answer.text)
        return answer

    def take_over(self, foreign: Foreign, envelope: Envelope, content: bytes, whence: str) -> tuple[int, bool]:
        """Put a message of another queue into the store, once for its key: its id, and whether it is new.

        ``content`` is in wire form; ``whence`` says in the ledger where it came from. Raises NotQueued; it is
        durable on return.
        """
        try:
            known = self._store.foreign(foreign.key)
        except StoreFailed as error:
            raise NotQueued(QUEUE_TROUBLE, f"unable to read the queue: {error} (#4.3.0)") from None
        if known is not None:
            return known, False
        spool = ""
        if len(content) > self._settings.inlinebytes:
            spool, descriptor = self.grant()
            self._fill(descriptor, content)
        now = time.time()
        foreign = msgspec.structs.replace(foreign, birth=min(foreign.birth, now))
        origin = Origin(whence, os.getpid(), os.getuid())
        arrival = Arrival(envelope, origin, b"" if spool else content, spool, len(content), crc32(content))
        number = self._commit(lambda engine, answer: engine.take_over(foreign, arrival, answer), now)
        if spool:
            self._granted.remove(spool)
        return number, True

    def _fill(self, descriptor: int, content: bytes) -> None:
        """Write a spool file durably, for the queue's owner from the first moment on."""
        try:
            with open(descriptor, "wb") as file:
                if os.geteuid() == 0:
                    owner = self._queue.stat()
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise NotQueued(WRITE_ERROR, f"unable to write a spool file: {error.strerror} (#4.3.1)") from None

    def administration(self) -> Administration:
        """Answers what the running queue would be asked."""
        table = HostTable(self._queue)
        engine = Engine(self._settings, self._store, SILENCE, NOBODY)
        return Administration(
            engine, self._store, lambda: None, table.load, lambda: table.keep(()), lambda _settings: None
        )

    def pages(self) -> Iterator[MessageRow | RowDamaged]:
        """Every message, in the order of their ids; in place of one that is damaged, why. Raises StoreFailed."""
        after = 0
        while True:
            damaged: list[RowDamaged] = []
            rows = self._store.messages(after, PAGE, damaged)
            found: dict[int, MessageRow | RowDamaged] = {row.id: row for row in rows}
            found |= {fault.message: fault for fault in damaged}
            if not found:
                return
            after = max(found)
            yield from (found[number] for number in sorted(found))

    def recipients(self, message: int) -> tuple[list[Recipient], list[Recipient]]:
        """A message's local and remote recipients that are still to be delivered to. Raises StoreFailed."""
        local: list[Recipient] = []
        remote: list[Recipient] = []
        for part in self._store.parts(message):
            channel = channel_of(self._store.destination_key(part.destination) or b"")
            (local if channel == "local" else remote).extend(part.recipients)
        return local, remote

    def content(self, row: MessageRow) -> bytes:
        """A message in wire form. Raises OSError, StoreFailed."""
        if not row.spool:
            return self._store.content(row.id) or b""
        with open(self._store.open_spool(row.spool), "rb") as file:
            return file.read()

    def let_go(self, message: int, whom: str) -> None:
        """Remove a message that is somebody else's now; the ledger says ``deleted by`` whom. Raises NotQueued."""
        now = time.time()
        engine = Engine(self._settings, self._store, SILENCE, NOBODY)
        engine.stopping = True
        try:
            engine.delete(message, now, whom)
            written = engine.commit()
        except (StoreFull, StoreFailed) as error:
            raise NotQueued(WRITE_ERROR, f"unable to write the queue: {error} (#4.3.0)") from None
        if not written:
            raise NotQueued(WRITE_ERROR, "unable to write the queue: the device is full (#4.3.0)")

    def checksum(self, message: int) -> int | None:
        """CRC-32 of a message's content, read from the store; None if it has left the queue. Raises NotQueued."""
        try:
            row = self._store.message(message)
            if row is None:
                return None
            if not row.spool:
                return crc32(self._store.content(message) or b"")
            with open(self._store.open_spool(row.spool), "rb") as file:
                checksum = 0
                while piece := file.read(1 << 20):
                    checksum = crc32(piece, checksum)
                return checksum
        except (OSError, StoreFailed) as error:
            raise NotQueued(QUEUE_TROUBLE, f"unable to read message {message}: {error} (#4.3.0)") from None


def give_to_owner(directory: Path) -> None:
    """What root has made here belongs to the directory's owner, as whom the queue process opens it."""
    if os.geteuid() != 0:
        return
    owner = directory.stat()
    for path in (*directory.iterdir(), *directory.glob("spool/*"), *directory.glob("segments/*")):
        if path.lstat().st_uid != owner.st_uid:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _envelope(letter: Letter, body: Body) -> Envelope:
    recipients = [Recipient(address, letter.notify) for address in letter.recipients]
    kind = BodyKind.EIGHTBIT if body.eight_bit else BodyKind.SEVENBIT
    return Envelope(letter.sender, recipients, kind, letter.is_utf8, letter.ret, letter.envid)


class _Silence:
    """The journal of an engine that only takes in: the log belongs to the process that runs the queue."""

    def status(self, local: int, concurrencylocal: int, remote: int, concurrencyremote: int, end: bool) -> None: ...
    def new_message(self, message: int) -> None: ...
    def info(self, message: int, size: int, sender: bytes, qp: int, uid: int) -> None: ...
    def starting(self, delivery: int, message: int, channel: str, recipient: bytes) -> None: ...
    def result(self, delivery: int, outcome: Outcome) -> None: ...
    def bounce(self, message: int, notice: int) -> None: ...
    def discarding(self, message: int, bounce: str) -> None: ...
    def end(self, message: int) -> None: ...
    def administrator(self, user: str, action: str, message: int) -> None: ...
    def warning(self, text: str) -> None: ...
    def alert(self, text: str) -> None: ...


class _Nobody:
    """The transport of an engine that only takes in."""

    def channels(self) -> list[str]:
        return []

    def send(self, part: Part, envelope: Envelope) -> bool:
        return False


SILENCE = _Silence()
NOBODY = _Nobody()

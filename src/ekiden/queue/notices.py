"""The end of a message: its sender is told what is to be told, in the transaction that ends it."""

from __future__ import annotations

import os
from zlib import crc32

from ekiden.base.envelope import Origin
from ekiden.base.outcome import Verdict
from ekiden.base.sender import DOUBLE_BOUNCE
from ekiden.queue import ledger
from ekiden.queue.bounce import compose
from ekiden.queue.dsn import Original
from ekiden.queue.intake import Arrival, Intake
from ekiden.queue.lane import Message
from ekiden.queue.ledger import Entry
from ekiden.queue.store import REMEDY


class Notices(Intake):
    """Adds the end to ``Intake``."""

    def _notify(self, message: Message, now: float, stored: bool) -> None:
        """Queue the notice about ended recipients, in the same transaction that records their end."""
        meta = message.meta
        original = Original(
            message.id,
            message.birth,
            message.sender,
            self._beginning(message),
            message.size,
            meta.ret,
            meta.envid,
            meta.body,
            meta.smtputf8,
        )
        # No process makes it: its number is what links its own lines in the log to the one that says why it came.
        number = self.store.new_message_id()
        notice = compose(self._settings, original, message.ended, now, number)
        told = 0
        if notice is None:
            if any(ended.outcome.verdict == Verdict.FAILED for ended in message.ended):
                self._journal.discarding(message.id, "triple" if message.sender == DOUBLE_BOUNCE else "double")
        else:
            origin = Origin("bounce", number, os.getuid())
            arrival = Arrival(notice.envelope, origin, notice.content, "", len(notice.content))
            self._reported.append(self._new(arrival, now, self.scheduler.changes, number=number))
            self._journal.bounce(message.id, number)
            told = number
        if self._has_entries(message):
            self._write_entry(message, ledger.NOTICE, told, now, Entry([], notice=told))
        message.ended.clear()
        if stored and message.left:
            self.scheduler.changes.ended.append((None, message.id))

    def _has_entries(self, message: Message) -> bool:
        """Whether the ledger is told of the message's ends, if only until the last of them."""
        return self._keeps_ledger or message.meta.recipients > 1

    def _write_entry(self, message: Message, part: int, attempt: int, now: float, entry: Entry) -> None:
        """Have it in the ledger with the next commit."""
        encoded = ledger.encode(entry, message.id, part)
        self.scheduler.changes.ledger.append((message.id, part, attempt, now, encoded))

    def content(self, message: Message) -> bytes | None:
        """The content of a message without a file of its own; None, with an alert, if it cannot be had or is not what
        came in."""
        if message.content is not None:
            return message.content
        try:
            content = self.store.content(message.id)
        except OSError as error:
            self._journal.alert(f"msg {message.id}: unable to read its content: {error.strerror}")
            return None
        if not isinstance(content, bytes) or (message.meta.checksum and crc32(content) != message.meta.checksum):
            self._journal.alert(f"msg {message.id}: its content is damaged; {REMEDY}")
            return None
        return content

    def _beginning(self, message: Message) -> bytes:
        """The content, or of a large one as much as a notice may return and a little more."""
        if not message.spool:
            return self.content(message) or b""
        try:
            descriptor = self.store.open_spool(message.spool)
        except OSError as error:
            self._journal.alert(f"msg {message.id}: unable to open spool/{message.spool}: {error.strerror}")
            return b""
        with open(descriptor, "rb") as file:
            return file.read(self._settings.bouncebytes + 65536)

    def _remove(self, message: Message) -> None:
        self.scheduler.changes.removed.append((message.id,))
        if not self._keeps_ledger and message.meta.recipients > 1:
            self.scheduler.changes.unledgered.append((message.id,))
        if message.spool:
            self._unlink.append(message.spool)
        self._journal.end(message.id)

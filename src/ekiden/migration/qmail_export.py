"""Our messages into a qmail queue directory, as messages that qmail-send has looked at (state S5).

Neither qmail-send nor ekiden may run. For each message:

1. content, recipients and reports of failures are written and synced; to qmail it is an unfinished message (S2);
2. its number in both queues is noted in ``exported``, synced;
3. ``info/N`` makes it qmail's message, with its age;
4. it is removed from our queue.

A crash before 2 leaves what qmail cleans up after 36 hours; after it, the next run finds the note, and goes on with
3 if the message is still unfinished, and with 4. What has left qmail's queue meanwhile was noted, and is not written
again.
"""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

from ekiden.base.envelope import Envelope, Recipient
from ekiden.delivery.maildir import sync_directory
from ekiden.migration.finding import Place, Report
from ekiden.queue.audit import check_content
from ekiden.queue.store import MessageRow, RowDamaged, StoreDamaged
from ekiden.runtime.classic.message_files import SPLIT
from ekiden.runtime.injection.direct import Direct

NOTES = "exported"
_SPLIT_PARTS = ("mess", "info", "local", "remote")
_FLAT_PARTS = ("todo", "intd", "bounce", "pid", "lock")


class Exporter:
    """Writes messages below ``directory``, which is made if it is not there. OSError."""

    def __init__(self, directory: Path, queue: Direct, whom: str, report: Report) -> None:
        self._directory = directory
        self._queue = queue
        self._whom = f"{whom}, exported to {directory}"
        self._report = report
        for part in (*_SPLIT_PARTS, *_FLAT_PARTS):
            (directory / part).mkdir(parents=True, exist_ok=True)
        self._split = _split(directory)
        self._notes = self._read_notes()
        self.messages = self.recipients = self.octets = 0

    def _read_notes(self) -> dict[tuple[int, int], int]:
        """qmail's numbers by our own and the message's birth; half a last line does not count."""
        path = self._directory / NOTES
        if not path.exists():
            return {}
        *whole, _rest = path.read_text().split("\n")
        rows = [tuple(map(int, line.split())) for line in whole]
        return {(ours, birth): theirs for ours, birth, theirs in rows}

    def export(self, row: MessageRow | RowDamaged) -> None:
        """One message; what is damaged of it stays in our queue. Raises OSError, StoreFailed, NotQueued."""
        if isinstance(row, RowDamaged):
            self._leave(row.message, row.fault)
            return
        if row.held:
            place = Place(f"message {row.id}")
            self._report.left(place, "it is on hold, which qmail does not have", f"ekiden queue release {row.id}")
            return
        try:
            local, remote = self._queue.recipients(row.id)
        except StoreDamaged as damage:
            # Of a part's destination, too: no other message need be for it.
            self._leave(row.id, damage.fault if isinstance(damage, RowDamaged) else damage.args[0])
            return
        if not (local or remote or row.ended):
            self._leave(row.id, "its recipients are gone")
            return
        self._move(row, local, remote)

    def _leave(self, number: int, fault: str) -> None:
        self._report.left(Place(f"message {number}"), f"it is damaged: {fault}", "ekiden queue recover")

    def _move(self, row: MessageRow, local: list[Recipient], remote: list[Recipient]) -> None:
        place = Place(f"message {row.id}")
        key = (row.id, int(row.birth * 1000))
        number = self._notes.get(key)
        if number is None:
            content = self._content(row, place)
            if content is None:
                return
            number = self._write(row, content, local, remote)
            self._note(key, number)
        if self._path("mess", number).exists():
            self._write_file("info", number, b"F%b\0" % row.sender, row.birth)
        self._queue.let_go(row.id, self._whom)
        self.messages += 1
        self.recipients += len(local) + len(remote)
        self.octets += row.size
        text = f"{len(local) + len(remote)} recipients, {row.size} octets, as {number}"
        if _is_lost(row, [*local, *remote]):
            self._report.changed(place, f"{text}; what was asked for about notices (DSN) is lost")
        else:
            self._report.carried(place, text)

    def _content(self, row: MessageRow, place: Place) -> bytes | None:
        """What came in; None, and reported, if it cannot be had any more: then our queue keeps what there is."""
        try:
            content = self._queue.content(row)
            fault = next(check_content(row.size, row.meta.checksum, len(content), crc32(content)), "")
        except OSError as error:
            content, fault = b"", f"has a content that cannot be read: {error.strerror}"
        if fault:
            self._report.left(place, f"it {fault}", "ekiden queue recover")
        return None if fault else content

    def _write(self, row: MessageRow, content: bytes, local: list[Recipient], remote: list[Recipient]) -> int:
        """All but ``info``; qmail's number, which is the inode of the content's file."""
        beginning = self._directory / "pid" / f"ekiden.{os.getpid()}.{row.id}"
        _write_durably(beginning, content.replace(b"\r\n", b"\n"), self._directory / "mess", 0o644)
        number = beginning.stat().st_ino
        beginning.rename(self._path("mess", number))
        sync_directory(os.fsencode(self._path("mess", number).parent))
        for part, recipients in (("local", local), ("remote", remote)):
            if recipients:
                records = b"".join(b"T%b\0" % recipient.address for recipient in recipients)
                self._write_file(part, number, records, row.birth)
        if row.ended:
            reports = (_paragraph(ended.recipient.address, ended.outcome.text) for ended in row.ended)
            self._write_file("bounce", number, b"".join(reports), row.birth)
        return number

    def _note(self, key: tuple[int, int], number: int) -> None:
        with (self._directory / NOTES).open("a") as file:
            file.write(f"{key[0]} {key[1]} {number}\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(os.fsencode(self._directory))
        self._notes[key] = number

    def _write_file(self, part: str, number: int, octets: bytes, when: float) -> None:
        path = self._path(part, number)
        beside = self._directory / "pid" / f"{part}.{number}"
        _write_durably(beside, octets, self._directory / part, 0o600, when)
        beside.rename(path)
        sync_directory(os.fsencode(path.parent))

    def _path(self, part: str, number: int) -> Path:
        if part not in _SPLIT_PARTS:
            return self._directory / part / str(number)
        return self._directory / part / str(number % self._split) / str(number)


def _split(directory: Path) -> int:
    """How many subdirectories there are; they are made where they are missing, the last one first, which tells."""
    numbered = [int(path.name) for path in (directory / "mess").iterdir() if path.name.isdigit()]
    split = max(numbered) + 1 if numbered else SPLIT
    for part in _SPLIT_PARTS:
        owner = (directory / part).stat()
        for number in reversed(range(split)):
            path = directory / part / str(number)
            if not path.is_dir():
                path.mkdir()
                os.chown(path, owner.st_uid, owner.st_gid)
    return split


def _write_durably(path: Path, octets: bytes, owner: Path, mode: int, when: float = 0.0) -> None:
    """A file of the user whose directory ``owner`` is. ``when``: its time, which is the message's age to qmail."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fchmod(descriptor, mode)
        if os.geteuid() == 0:
            status = owner.stat()
            os.fchown(descriptor, status.st_uid, status.st_gid)
        if when:
            os.utime(descriptor, (when, when))
        os.fsync(descriptor)


def _paragraph(address: bytes, report: str) -> bytes:
    """As qmail-send notes a failure: no empty line but the one at the end."""
    text = report.encode().strip(b"\n")
    while b"\n\n" in text:
        text = text.replace(b"\n\n", b"/\n")
    return b"<%b>:\n%b\n\n" % (address, text)


def _is_lost(row: MessageRow, recipients: list[Recipient]) -> bool:
    """Whether the envelope says what qmail's cannot."""
    plain = Envelope(row.sender, [], row.meta.body)
    asked = any(recipient.notify or recipient.orcpt for recipient in recipients)
    return asked or (row.meta.ret, row.meta.envid, row.meta.smtputf8) != (plain.ret, plain.envid, plain.smtputf8)

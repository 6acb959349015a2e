"""qmail's queue directory as INTERNALS of its distribution has it: what messages there are, in which state.

A message has a number. ``mess/N`` holds it; ``todo/N`` its envelope until qmail-send has looked at it (state S4),
then ``info/N`` the sender and ``local/N`` and ``remote/N`` the recipients, each marked done or not (S5). ``bounce/N``
tells of recipients that failed and of whom the sender has not been told. ``mess``, ``info``, ``local`` and ``remote``
have subdirectories, and ``todo`` and ``bounce`` may have them. Without ``todo/N`` and ``info/N`` a message was never
accepted, or is done (S2, S3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PARTS = ("todo", "intd", "info", "local", "remote", "bounce", "mess")
"""In the order in which a message's files are put aside: first what makes it one, its content last."""
_CHANNELS = ("local", "remote")


class Damaged(Exception):
    """A message that cannot be read; the text says what is wrong."""


class Failure(NamedTuple):
    """A recipient that failed, and the report, lines ended by a newline."""

    recipient: bytes
    report: str


class QueuedMessage(NamedTuple):
    """An accepted message. ``birth``: seconds of the epoch; ``local`` recipients have virtualdomains' prefixes."""

    birth: float
    sender: bytes
    local: list[bytes]
    remote: list[bytes]
    unsorted: list[bytes]
    """Recipients of a message that qmail-send has not looked at."""
    failures: list[Failure]
    content: bytes


class QmailQueue:
    """The directory's files by part and number. OSError if it cannot be read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, dict[int, Path]] = {part: dict(_numbered(directory / part)) for part in PARTS}

    def accepted(self) -> list[int]:
        """The numbers of messages that qmail answers for, in order."""
        return sorted(self.files["todo"].keys() | self.files["info"].keys())

    def unfinished(self) -> list[int]:
        """Messages without an envelope: never accepted, or done."""
        return sorted((self.files["mess"].keys() | self.files["intd"].keys()) - set(self.accepted()))

    def read(self, number: int) -> QueuedMessage:
        """Raises Damaged and OSError."""
        if number not in self.files["mess"]:
            raise Damaged("its content, in mess, is not there")
        content = self.files["mess"][number].read_bytes()
        if number in self.files["todo"]:
            birth, sender, recipients = self._todo(number)
            return QueuedMessage(birth, sender, [], [], recipients, [], content)
        info = self.files["info"][number]
        sender = _one(info.read_bytes(), b"F")
        local, remote = (self._left(channel, number) for channel in _CHANNELS)
        return QueuedMessage(info.stat().st_mtime, sender, local, remote, [], self._failures(number), content)

    def _todo(self, number: int) -> tuple[float, bytes, list[bytes]]:
        path = self.files["todo"][number]
        records = list(_records(path.read_bytes()))
        senders = [value for mark, value in records if mark == b"F"]
        if len(senders) != 1 or any(mark not in b"upFT" for mark, _ in records):
            raise Damaged("its envelope, in todo, is not whole")
        return path.stat().st_mtime, senders[0], [value for mark, value in records if mark == b"T"]

    def _left(self, channel: str, number: int) -> list[bytes]:
        """Recipients that are not done."""
        path = self.files[channel].get(number)
        if path is None:
            return []
        records = list(_records(path.read_bytes()))
        if any(mark not in b"TD" for mark, _ in records):
            raise Damaged(f"its recipients, in {channel}, are not whole")
        return [value for mark, value in records if mark == b"T"]

    def _failures(self, number: int) -> list[Failure]:
        path = self.files["bounce"].get(number)
        if path is None:
            return []
        found = []
        for paragraph in path.read_bytes().split(b"\n\n"):
            address, mark, report = paragraph.lstrip(b"\n").partition(b">:\n")
            if mark and address.startswith(b"<"):
                found.append(Failure(address[1:], report.decode("utf-8", "replace").rstrip("\n") + "\n"))
        return found


def _numbered(directory: Path) -> Iterator[tuple[int, Path]]:
    """The files of a part, with subdirectories or without."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        if re.fullmatch("[0-9]{1,20}", path.name) is None:
            continue
        if path.is_dir() and not path.is_symlink():
            inner = [each for each in sorted(path.iterdir()) if re.fullmatch("[0-9]{1,20}", each.name)]
            yield from ((int(each.name), each) for each in inner if each.is_file() and not each.is_symlink())
        elif path.is_file() and not path.is_symlink():
            yield int(path.name), path


def _records(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Marked values, each with a NUL behind it. Raises Damaged if the last one has none, or one is empty."""
    *whole, rest = raw.split(b"\0")
    if rest or not all(whole):
        raise Damaged("a file of it breaks off")
    for record in whole:
        yield record[:1], record[1:]


def _one(raw: bytes, mark: bytes) -> bytes:
    records = list(_records(raw))
    if len(records) != 1 or records[0][0] != mark:
        raise Damaged("its sender, in info, is not whole")
    return records[0][1]

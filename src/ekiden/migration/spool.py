"""mbox spools into Maildirs: every message once, however often it is tried, the spool left as it is.

A message's file name holds a checksum of the message, and each Maildir keeps the list of those that it has been given
(``LIST``): so a second run takes only what is new, also when the owner has moved or removed mail since. The list is
extended when the files are durable; what a crash leaves out of it is found in new/ or cur/ by its name.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ekiden.base.dates import DAYS, MONTHS
from ekiden.delivery.content import write_all
from ekiden.delivery.maildir import sync_directory
from ekiden.mailstore.dotlock import locked
from ekiden.mailstore.spool_scan import Entry, read_range, scan

LIST = b"migrated-messages"
"""The list's name in a Maildir."""

_STATUS = re.compile(rb"(?im)^(?:x-)?status:[ \t]*([A-Z]*)")
_NAME = re.compile(rb"\d+\.M([0-9a-f]{32}_\d+)\.migrated(?::|$)")
_HEADER = re.compile(rb"\r?\n\r?\n")
_NOTES = re.compile(rb"(?im)^(?:status|x-status|x-keywords|x-uid|x-imap|x-imapbase):.*\n(?:[ \t].*\n)*")
_FLAGS = {b"A": b"R", b"D": b"T", b"F": b"F", b"R": b"S", b"T": b"D"}
"""Letters of Status and X-Status (mutt, pine, Dovecot), and the Maildir's flags."""
_WHEN = re.compile(
    rb"(?:%b) (%b) +(\d+) (\d\d):(\d\d):(\d\d) (?:[A-Z]{3,4} )?(\d{4})"
    % ("|".join(DAYS).encode(), "|".join(MONTHS).encode())
)


@dataclass
class Moved:
    """What became of a spool: messages in it, octets of their contents, those that are new in the Maildir."""

    messages: int = 0
    octets: int = 0
    added: int = 0
    checksum: str = ""
    """SHA-256 over the contents in order, as they were read."""
    stored: str = ""
    """The same over what is in the Maildir; of what its owner has removed since, as it was read."""


def move(spool: Path, maildir: Path, apply: bool, step: Callable[[int], None]) -> Moved:
    """Bring what is in a spool into a Maildir, which is made. ``step`` is told the octets that are done.

    Raises OSError, MailboxError if the spool is locked, NotMbox if it is something else.
    """
    # For writing: fcntl's locks ask for it.
    with spool.open("r+b" if apply and os.access(spool, os.W_OK) else "rb") as file:
        if not apply or not file.writable():
            return _move(file.fileno(), None, step)
        with locked(os.fsencode(spool), file.fileno()):
            return _move(file.fileno(), _Target(os.fsencode(maildir)), step)


def _move(spool: int, target: _Target | None, step: Callable[[int], None]) -> Moved:
    moved = Moved()
    read, stored = hashlib.sha256(), hashlib.sha256()
    seen: Counter[bytes] = Counter()
    for entry in scan(spool, os.fstat(spool).st_size):
        content = b"".join(read_range(spool, entry.content, entry.stop))
        key, when = _key(spool, entry, content, seen)
        moved.messages += 1
        moved.octets += len(content)
        read.update(content)
        if target is not None:
            moved.added += target.deliver(key, when, content)
            stored.update(target.read(key, content))
        step(entry.end - entry.start)
    if target is not None:
        target.close()
        moved.stored = stored.hexdigest()
    moved.checksum = read.hexdigest()
    return moved


def _key(spool: int, entry: Entry, content: bytes, seen: Counter[bytes]) -> tuple[bytes, int]:
    """What only this message has, and its time: what mail readers write into its header does not count."""
    line = os.pread(spool, min(entry.content - entry.start, 998), entry.start).partition(b"\n")[0]
    header = content[: match.end()] if (match := _HEADER.search(content)) else content
    whole = line + b"\n" + _NOTES.sub(b"", header) + content[len(header) :]
    digest = hashlib.sha256(whole).hexdigest()[:32].encode()
    seen[digest] += 1
    return b"%b_%d" % (digest, seen[digest]), _when(line)


def _when(line: bytes) -> int:
    """The time in a From_ line, which is the host's local time; 0 if there is none."""
    match = _WHEN.search(line)
    if match is None:
        return 0
    month = MONTHS.index(match[1].decode()) + 1
    day, hour, minute, second, year = (int(match[number]) for number in range(2, 7))
    try:
        return max(0, int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1))))
    except (OverflowError, ValueError):
        return 0


def make(path: bytes) -> None:
    """Make what is missing of a Maildir; OSError."""
    for directory in (path, *(os.path.join(path, name) for name in (b"tmp", b"new", b"cur"))):
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
            sync_directory(os.path.dirname(directory))


class _Target:
    """A Maildir, made if need be, with the list of what it has been given."""

    def __init__(self, path: bytes) -> None:
        make(path)
        self._path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._list = os.open(os.path.join(path, LIST), flags, 0o600)
        with open(self._list, "rb", closefd=False) as file:
            # A crash may have left half a line, which counts for nothing.
            text = file.read()
        self._known = set(text.split(b"\n")[:-1])
        self._torn = not text.endswith(b"\n") and bool(text)
        self._there = dict(self._keys())
        self._added: list[bytes] = []

    def _keys(self) -> Iterator[tuple[bytes, bytes]]:
        for part in (b"new", b"cur"):
            for name in os.listdir(os.path.join(self._path, part)):
                if match := _NAME.match(name):
                    yield match[1], os.path.join(self._path, part, name)

    def deliver(self, key: bytes, when: int, content: bytes) -> bool:
        """Whether the message is new here."""
        if key in self._known:
            return False
        if key not in self._there:
            self._write(key, when, content)
        self._known.add(key)
        self._added.append(key)
        return True

    def _write(self, key: bytes, when: int, content: bytes) -> None:
        name = b"%d.M%b.migrated" % (when, key)
        temporary = os.path.join(self._path, b"tmp", name)
        final = os.path.join(self._path, _place(name, content))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb"):
            write_all(descriptor, content)
            if when:
                os.utime(descriptor, (when, when))
            os.fsync(descriptor)
        os.rename(temporary, final)
        self._there[key] = final

    def read(self, key: bytes, content: bytes) -> bytes:
        """The message as it is here; as it was read if its owner has moved or removed it."""
        path = self._there.get(key)
        if path is None:
            return content
        with open(path, "rb") as file:
            return file.read()

    def close(self) -> None:
        """Make everything durable, and then the list."""
        for part in (b"new", b"cur"):
            sync_directory(os.path.join(self._path, part))
        lines = b"".join(key + b"\n" for key in self._added)
        write_all(self._list, b"\n" * (self._torn and bool(lines)) + lines)
        os.fsync(self._list)
        os.close(self._list)
        sync_directory(self._path)


def _place(name: bytes, content: bytes) -> bytes:
    """``new/NAME`` for what nobody has seen, ``cur/NAME:2,FLAGS`` for the rest."""
    header = content[: match.end()] if (match := _HEADER.search(content)) else content
    letters = b"".join(_STATUS.findall(header))
    if not letters:
        return b"new/" + name
    flags = sorted({_FLAGS[letter] for letter in (b"%c" % one for one in letters) if letter in _FLAGS})
    return b"cur/" + name + b":2," + b"".join(flags)

"""Maildir++ quotas: how much a Maildir may hold, and the file ``maildirsize`` that says how much it does.

Source: courier-mta.org/imap/README.maildirquota.html. The first line is the quota's definition, as
``10000000S,1000C`` (octets, messages); every other line adds octets and messages, or takes them away. A file that is
lost, damaged, too long or made for another quota is made again from the names and sizes of the messages.

Deliveries lock the Maildir's directory from the look at the file until what they published is written into it, so
that no two of them count the same room. Readers that remove messages append lines and need no lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time

from ekiden.delivery.content import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = b"maildirsize"

LOCK_SECONDS = 5.0
"""How long a delivery waits for another one into the same Maildir."""

_LARGE = 5120
"""Octets beyond which the file is made again."""

_FRESH = 15 * 60
"""Seconds for which a file with one line of counts is believed although the Maildir is full."""

_PAUSE = 0.01
_COUNTS = re.compile(rb"[ \t]*(-?\d{1,18})[ \t]+(-?\d{1,18})[ \t]*")
_SIZE = re.compile(rb",S=(\d{1,18})(?=[,:]|\Z)")


class Quota:
    """Most octets and most messages; 0 is no limit."""

    __slots__ = ("messages", "octets")

    def __init__(self, octets: int, messages: int) -> None:
        self.octets = octets
        self.messages = messages

    def allows(self, octets: int, messages: int) -> bool:
        """Whether a Maildir may hold as much as that."""
        return not (0 < self.octets < octets) and not (0 < self.messages < messages)


def define(octets: int, messages: int) -> bytes:
    """The definition of a quota of so many octets and messages, 0 being no limit; empty if there is none at all."""
    return b",".join(b"%d%b" % (limit, letter) for limit, letter in ((octets, b"S"), (messages, b"C")) if limit)


def parse(definition: bytes) -> Quota:
    """The quota written ``10000000S,1000C``, either part alone, in any order; ValueError for anything else."""
    limits = {b"S": 0, b"C": 0}
    for part in definition.split(b","):
        number, letter = part[:-1], part[-1:]
        if letter not in limits or not number.isdigit() or len(number) > 18:
            raise ValueError("a quota is octets and S, messages and C, or both, as 10000000S,1000C")
        limits[letter] = int(number)
    return Quota(limits[b"S"], limits[b"C"])


class Locked(Exception):
    """Another delivery into the Maildir takes too long."""


def root(maildir: bytes) -> bytes:
    """The Maildir that a folder belongs to, which alone has a quota; a Maildir belongs to itself."""
    maildir = maildir.rstrip(b"/")
    if os.path.basename(maildir).startswith(b".") and os.path.exists(os.path.join(maildir, b"maildirfolder")):
        return os.path.dirname(maildir)
    return maildir


def definition_of(maildir: bytes, setting: bytes) -> bytes:
    """The quota's definition: the administrator's setting, else what the Maildir's own file says; empty if none."""
    if setting:
        return setting
    try:
        with open(os.path.join(maildir, FILE), "rb") as file:
            definition = file.readline(200).strip()
        parse(definition)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return b""
    return definition


class Counts:
    """What one Maildir holds, locked until ``close``. Raises OSError and Locked."""

    def __init__(self, maildir: bytes, definition: bytes) -> None:
        self._maildir = maildir
        self._path = os.path.join(maildir, FILE)
        self._definition = definition
        self._quota = parse(definition)
        self._reserved = (0, 0)
        self._directory = os.open(maildir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._lock()
            self._load()
        except BaseException:
            os.close(self._directory)
            raise

    def _lock(self) -> None:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    return  # This file system cannot lock; counts are made right at the next rebuilding.
            if time.monotonic() >= until:
                raise Locked
            time.sleep(_PAUSE)

    def _load(self) -> None:
        counted = self._counted()
        if counted is None:
            self._rebuild()
        else:
            self._octets, self._messages, self._is_fresh = counted

    def _counted(self) -> tuple[int, int, bool] | None:
        """Octets, messages, and whether they were counted just now; None if the file cannot be believed."""
        try:
            with open(self._path, "rb") as file:
                text = file.read(_LARGE + 1)
                changed = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        definition, *lines = text.split(b"\n")
        if len(text) > _LARGE or definition.strip() != self._definition or not lines or lines.pop():
            return None
        matches = [_COUNTS.fullmatch(line) for line in lines]
        octets, messages = (sum(int(match[at]) for match in matches if match) for at in (1, 2))
        if not all(matches) or octets < 0 or messages < 0:
            return None
        return octets, messages, len(lines) <= 1 and abs(time.time() - changed) < _FRESH

    def _rebuild(self) -> None:
        self._octets = self._messages = 0
        for size in _sizes(self._maildir):
            self._octets += size
            self._messages += 1
        self._is_fresh = True
        beside = os.path.join(self._maildir, b"tmp", b"%b.%d" % (FILE, os.getpid()))
        text = b"%b\n%d %d\n" % (self._definition, self._octets, self._messages)
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                write_all(descriptor, text)
            finally:
                os.close(descriptor)
            os.rename(beside, self._path)
        except OSError:
            # The counts are known all the same; the file is made with the next delivery.
            return

    def reserve(self, octets: int) -> bool:
        """Make room for a message; False if there is none."""
        if not self._has_room(octets) and not self._is_fresh:
            self._rebuild()
        if not self._has_room(octets):
            return False
        self._reserved = (self._reserved[0] + octets, self._reserved[1] + 1)
        return True

    def _has_room(self, octets: int) -> bool:
        reserved, messages = self._reserved
        return self._quota.allows(self._octets + reserved + octets, self._messages + messages + 1)

    def add(self, octets: int, messages: int) -> None:
        """Write down what was published. A failure is no failure of the delivery: the file is then removed."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                write_all(descriptor, b"%d %d\n" % (octets, messages))
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._directory)


def _sizes(maildir: bytes) -> Iterator[int]:
    """The octets of each message in the Maildir and its folders, except what is in the trash or marked for it."""
    with os.scandir(maildir) as entries:
        folders = [entry.path for entry in entries if _is_folder(entry)]
    for folder in (maildir, *folders):
        for part in (b"new", b"cur"):
            yield from _sizes_in(os.path.join(folder, part))


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    return entry.name.startswith(b".") and entry.name not in (b".Trash", b".", b"..") and entry.is_dir()


def _sizes_in(directory: bytes) -> Iterator[int]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith(b".") and b"T" not in entry.name.partition(b":2,")[2]:
                    yield from _size(entry)
    except (FileNotFoundError, NotADirectoryError):
        return


def _size(entry: os.DirEntry[bytes]) -> Iterator[int]:
    said = _SIZE.search(entry.name)
    if said:
        yield int(said[1])
        return
    try:
        yield entry.stat().st_size
    except FileNotFoundError:
        return  # A reader moved or removed it meanwhile.

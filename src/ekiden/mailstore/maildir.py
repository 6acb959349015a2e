"""A Maildir as a maildrop (maildir(5), qmail-pop3d(8)).

A message's unique id is its file's name up to the colon, which stays when other readers move the file from new/ to
cur/ or change its flags. Messages are in the order of their delivery, by the time in their names. Nothing is locked:
readers and deliveries need no lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from ekiden.delivery.maildir import clean, sync_directory
from ekiden.mailstore import index
from ekiden.mailstore.index import Index
from ekiden.mailstore.maildrop import MailboxError, measure, permanent, pieces_of, temporary

_UID_OCTETS = 70
_IN_UID = bytes(range(0x21, 0x7F))
_WIRE_SIZE = re.compile(rb",W=([0-9]{1,15})(?:,|$)")
_LARGE = 1000
"""Messages from which on the list itself is worth keeping, not only new sizes."""


class Maildir:
    """A Maildir that is open."""

    def __init__(self, path: bytes) -> None:
        """Raises MailboxError if there is no Maildir, or it cannot be read."""
        self._path = path
        self._kept = index.load(path)
        self._learned = False
        try:
            clean(path, time.time())
            stamp, changed = index.directory_stamp(path)
            now = time.time_ns()
            if self._kept is not None and self._kept.stamp == stamp:
                self._index = self._kept
            else:
                self._index = self._scan(stamp if index.settled(changed, now) else b"")
                self._learned = len(self._index.paths) >= _LARGE
        except FileNotFoundError:
            raise permanent("there is no such Maildir") from None
        except OSError as error:
            raise temporary(f"unable to scan the Maildir: {error.strerror}") from None
        self._uids: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self._index.paths)

    def _scan(self, stamp: bytes) -> Index:
        known = {}
        if self._kept is not None:
            known = {_unique(path): size for path, size in zip(self._kept.paths, self._kept.sizes, strict=True)}
        found = []
        for part in (b"new/", b"cur/"):
            names = os.listdir(os.path.join(self._path, part))
            found += [(_order(name), name, part + name) for name in names if not name.startswith(b".")]
        found.sort()
        paths = [path for _order, _name, path in found]
        return Index(paths, [known.get(_unique(path), -1) for path in paths], stamp)

    def uids(self) -> Sequence[bytes]:
        """Names up to the colon; for names that POP3 does not allow, or that two files have, a hash."""
        if self._uids is None:
            names = list(map(_unique, self._index.paths))
            lengths = {*map(len, names), 1}
            if b"".join(names).translate(None, _IN_UID) or max(lengths) > _UID_OCTETS or not min(lengths):
                names = [name if _is_uid(name) else _hash(name) for name in names]
            if len(set(names)) != len(names):
                names = _told_apart(names, self._index.paths)
            self._uids = names
        return self._uids

    def sizes(self) -> Sequence[int]:
        """From names that say it (``,W=``), from the index, or by reading."""
        sizes = self._index.sizes
        if -1 in sizes:
            self._learned = True
            for place, path in enumerate(self._index.paths):
                if sizes[place] < 0:
                    sizes[place] = self._measure(place, path)
        return sizes

    def _measure(self, place: int, path: bytes) -> int:
        said = _WIRE_SIZE.search(_unique(path))
        if said is not None:
            return int(said[1])
        try:
            return measure(self.read(place + 1))
        except MailboxError:
            # Removed by another reader meanwhile.
            return 0

    def read(self, number: int) -> Iterator[bytes]:
        """See Maildrop; also after another reader has renamed the file."""
        descriptor = self._open(number - 1)
        try:
            yield from pieces_of(descriptor)
        except OSError as error:
            raise temporary(f"unable to read that message: {error.strerror}") from None
        finally:
            os.close(descriptor)

    def _open(self, place: int) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            try:
                return os.open(os.path.join(self._path, self._index.paths[place]), flags)
            except FileNotFoundError:
                return os.open(os.path.join(self._path, self._find_again(place)), flags)
        except FileNotFoundError:
            raise permanent("that message was removed by another program") from None
        except OSError as error:
            raise temporary(f"unable to open that message: {error.strerror}") from None

    def _find_again(self, place: int) -> bytes:
        """The path of a file that is no longer where it was. Raises OSError."""
        wanted = _unique(self._index.paths[place])
        for part in (b"cur/", b"new/"):
            for name in os.listdir(os.path.join(self._path, part)):
                if name.partition(b":")[0] == wanted:
                    self._index.paths[place] = part + name
                    self._index.stamp = b""
                    return part + name
        raise FileNotFoundError

    def update(self, deleted: AbstractSet[int]) -> None:
        """Unlink what is deleted, move the rest from new/ to cur/ as qmail-pop3d does; durable on return."""
        failed = 0
        touched = set()
        for number in sorted(deleted):
            touched.add(self._index.paths[number - 1][:3])
            failed += not self._remove(number - 1)
        for place, path in enumerate(self._index.paths):
            if path.startswith(b"new/") and place + 1 not in deleted:
                self._mark_seen(place, path)
        for part in touched:
            with contextlib.suppress(OSError):
                sync_directory(os.path.join(self._path, part))
        if deleted:
            places = [place for place in range(len(self)) if place + 1 not in deleted]
            self._index = Index([self._index.paths[at] for at in places], [self._index.sizes[at] for at in places])
            self._uids = None
        if failed:
            raise temporary(f"{failed} deleted messages could not be removed")

    def _remove(self, place: int) -> bool:
        """Whether the file is gone, as was wanted; another reader may have renamed or removed it."""
        path = self._index.paths[place]
        while True:
            try:
                os.unlink(os.path.join(self._path, path))
                return True
            except FileNotFoundError:
                try:
                    path = self._find_again(place)
                except FileNotFoundError:
                    return True
                except OSError:
                    return False
            except OSError:
                return False

    def _mark_seen(self, place: int, path: bytes) -> None:
        seen = b"cur/" + path[4:] + (b"" if b":" in path else b":2,")
        try:
            os.rename(os.path.join(self._path, path), os.path.join(self._path, seen))
        except OSError:
            # It stays new.
            return
        self._index.paths[place] = seen
        self._index.stamp = b""

    def close(self) -> None:
        """Keep what was learned for the next session."""
        if self._learned:
            self._learned = False
            index.save(self._path, self._index)


def _unique(path: bytes) -> bytes:
    """A file's name without its directory and flags."""
    return path[4:].partition(b":")[0]


def _order(name: bytes) -> int:
    """The time of delivery that a name begins with; 0 if there is none."""
    seconds = name.partition(b".")[0]
    return int(seconds) if seconds.isdigit() and len(seconds) < 20 else 0


def _is_uid(name: bytes) -> bool:
    return 0 < len(name) <= _UID_OCTETS and not name.translate(None, _IN_UID)


def _hash(name: bytes) -> bytes:
    return hashlib.sha256(name).hexdigest().encode()


def _told_apart(names: list[bytes], paths: list[bytes]) -> list[bytes]:
    """The same name in new/ and cur/ is two messages to us, as it is to a client that asks for both."""
    seen: set[bytes] = set()
    apart = []
    for name, path in zip(names, paths, strict=True):
        own = _hash(path) if name in seen else name
        seen.add(own)
        apart.append(own)
    return apart

"""An mbox file as a maildrop: what popper was for mail spools (mbox(5)).

The file is locked while it is scanned and while it is changed, and not in between, so that mail keeps arriving while
a session lasts. It is changed only if messages are removed. A second session of ours is told IN-USE.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from ekiden.mailstore.dotlock import busy, locked
from ekiden.mailstore.maildrop import MailboxError, permanent, temporary
from ekiden.mailstore.spool_rewrite import recover, remove
from ekiden.mailstore.spool_scan import Entry, NotMbox, read_range, scan

Stamp = tuple[int, int, int, int]

_REPLACED = 5
"""How often another program may replace the file while we wait for its lock."""


class Spool:
    """An mbox file that is open; one that does not exist is empty. ``place``: where our notes may be kept."""

    def __init__(self, path: bytes, place: bytes) -> None:
        """Raises MailboxError."""
        self._path = path
        self._place = place
        self._session = self._enter()
        self._descriptor = -1
        self._entries: list[Entry] = []
        self._stamp: Stamp | None = None
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._entries)

    def sizes(self) -> Sequence[int]:
        """See Maildrop."""
        return [entry.octets for entry in self._entries]

    def uids(self) -> Sequence[bytes]:
        """See Maildrop."""
        return [entry.uid for entry in self._entries]

    def read(self, number: int) -> Iterator[bytes]:
        """See Maildrop."""
        entry = self._entries[number - 1]
        if self._stamp != _stamp(self._descriptor) and not self._is_there(entry):
            raise temporary("the mailbox was changed by another program")
        try:
            yield from read_range(self._descriptor, entry.content, entry.stop)
        except OSError as error:
            raise temporary(f"unable to read that message: {error.strerror}") from None

    def update(self, deleted: AbstractSet[int]) -> None:
        """Take the messages out, wherever they are by now; what was appended stays. Durable on return."""
        if not deleted:
            return
        wanted = {self._entries[number - 1].uid for number in deleted}
        with self._locked() as found:
            if not found:
                return
            try:
                entries = self._scan()
                removed = frozenset(place for place, entry in enumerate(entries) if entry.uid in wanted)
                if removed:
                    remove(self._path, self._descriptor, self._journal(), entries, removed)
            except OSError as error:
                raise temporary(f"unable to change the mailbox: {error.strerror}") from None

    def close(self) -> None:
        """Let others in."""
        for descriptor in (self._descriptor, self._session):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._session = -1

    def _note(self, name: bytes) -> bytes:
        return os.path.join(self._place, b".ekiden-pop3-" + name)

    def _enter(self) -> int:
        """Keep other sessions of ours out, by a file that nobody else locks; -1 where none can be made."""
        name = self._note(b"lock-" + hashlib.sha256(os.path.abspath(self._path)).hexdigest()[:16].encode())
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return -1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise MailboxError("another session has this mailbox open", "IN-USE") from None
        return descriptor

    def _journal(self) -> bytes:
        status = os.fstat(self._descriptor)
        return self._note(b"journal-%d-%d" % (status.st_dev, status.st_ino))

    def _read(self) -> None:
        with self._locked() as found:
            if not found:
                return
            try:
                recover(self._descriptor, self._journal())
                self._entries = self._scan()
                self._stamp = _stamp(self._descriptor)
            except OSError as error:
                raise temporary(f"unable to read the mailbox: {error.strerror}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the locks on the file that bears the name now; whether there is one."""
        for _ in range(_REPLACED):
            if not self._open():
                yield False
                return
            with locked(self._path, self._descriptor):
                if os.fstat(self._descriptor).st_nlink:
                    yield True
                    return
            # Another program put a new file in its place while we waited for the lock.
        raise busy()

    def _open(self) -> bool:
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise permanent(f"unable to open the mailbox: {error.strerror}") from None
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise permanent("the mailbox is no file")
        return True

    def _scan(self) -> list[Entry]:
        try:
            return scan(self._descriptor, os.fstat(self._descriptor).st_size)
        except NotMbox:
            raise permanent("the mailbox is not an mbox file") from None

    def _is_there(self, entry: Entry) -> bool:
        """Whether the message is still where it was, in a file that changed: in most cases mail was appended."""
        with contextlib.suppress(OSError, MailboxError), locked(self._path, self._descriptor):
            if any(now == entry for now in self._scan_again(entry)):
                return True
        return False

    def _scan_again(self, entry: Entry) -> list[Entry]:
        found = self._scan()
        stamp = _stamp(self._descriptor)
        # Everything that we know at the old places: no need to look again until the next change.
        if found[: len(self._entries)] == self._entries:
            self._stamp = stamp
        return [now for now in found if now.start == entry.start]


def _stamp(descriptor: int) -> Stamp:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_nlink

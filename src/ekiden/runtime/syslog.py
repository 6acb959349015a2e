"""Entries in the system's log: syslog(3) as splogger(8) uses it, and systemd's journal in its native protocol.

Both raise OSError when the system's log does not take an entry; the next call connects anew.
"""

from __future__ import annotations

import errno
import os
import socket

from ekiden.base.dates import syslog_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ALERT, WARNING, INFO = 1, 4, 6
MAIL = 2
"""The facility, as syslog(3) numbers them before shifting."""

SYSLOG_PATH = "/dev/log"
JOURNAL_PATH = "/run/systemd/journal/socket"

FOLD = 799
"""Octets of text per entry, as splogger has it: longer ones are cut by some syslog daemons."""

_PATIENCE = 0.5
"""Seconds that a stuck daemon may keep us waiting for one entry."""


def priority(text: bytes) -> int:
    """LOG_ALERT, LOG_WARNING or LOG_INFO, by how the text begins (splogger(8))."""
    if text.startswith(b"alert:"):
        return ALERT
    return WARNING if text.startswith(b"warning:") else INFO


def fold(stamp: bytes, text: bytes, continued: bool = False) -> Iterator[bytes]:
    """Entries for one line: ``stamp text``, and as long as something is left over ``stamp+text``. None if blank.

    ``continued``: the line's first entry was made earlier.
    """
    for start in range(0, len(text), FOLD):
        yield stamp + (b"+" if start or continued else b" ") + text[start : start + FOLD]


class _Daemon:
    """A logging daemon's datagram or stream socket, connected when it is needed and again after an error."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None

    def close(self) -> None:
        """Disconnect; the next entry connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deliver(self, entry: bytes) -> None:
        for last in (False, True):
            connection = self._connection = self._connection or _connected(self._path)
            try:
                # A stream of entries needs something between them, a datagram ends by itself.
                connection.sendall(entry + b"\0" if connection.type == socket.SOCK_STREAM else entry)
                return
            except OSError as error:
                # The daemon may have been restarted since the last entry: once more, then it is the caller's.
                self.close()
                if last or isinstance(error, TimeoutError):
                    raise


class Syslog(_Daemon):
    """The syslog daemon. ``tag`` stands in front of every entry."""

    def __init__(self, tag: bytes, facility: int = MAIL, path: str = SYSLOG_PATH) -> None:
        super().__init__(path)
        self._tag = tag
        self._facility = facility

    def send(self, level: int, text: bytes, when: float) -> None:
        """Make one entry; ``when`` is seconds of the epoch. OSError if it was not taken."""
        self._deliver(b"<%d>%b %b: %b" % (self._facility << 3 | level, syslog_date(when), self._tag, text))


class Journal(_Daemon):
    """systemd-journald (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, tag: bytes, facility: int = MAIL, path: str = JOURNAL_PATH) -> None:
        super().__init__(path)
        self._constant = b"\nSYSLOG_IDENTIFIER=%b\nSYSLOG_FACILITY=%d\nSYSLOG_PID=%d\n" % (tag, facility, os.getpid())

    def send(self, level: int, text: bytes) -> None:
        """Make one entry of one line. OSError if it was not taken."""
        self._deliver(b"MESSAGE=%b\nPRIORITY=%d%b" % (text, level, self._constant))


def _connected(path: str) -> socket.socket:
    try:
        return _connected_as(path, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return _connected_as(path, socket.SOCK_STREAM)


def _connected_as(path: str, kind: socket.SocketKind) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection

"""Where the log's lines end up: a file, standard error, syslog or the journal.

In the file ``log/ekiden.log`` every line has the form of syslog's files, ``Nov 23 12:56:33 host qmail:
1795406193.123456 new msg 5``, with the local time of the system's zone, so that what reads /var/log/maillog reads it;
standard error gets ``1795406193.123456 new msg 5`` alone, because whatever reads it has a prefix of its own; syslog
gets entries as splogger(8) makes them, the journal the text. JSON objects are written as they are.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from ekiden.base.dates import syslog_date
from ekiden.runtime.logfile import LogFile
from ekiden.runtime.syslog import ALERT, INFO, WARNING, Journal, Syslog, fold, priority
from ekiden.settings.schema import Settings

NAME = "ekiden.log"
TAG = b"qmail"

_DAY = 86_400


class Target(Protocol):
    """Where lines end up."""

    def form(self, lines: bytes) -> bytes:
        """Lines of one datagram as this target wants them; called once per datagram."""

    def write(self, data: bytes) -> int:
        """Take lines from the front of ``data``; how many octets were taken. OSError if none could be."""

    def reopen(self) -> None:
        """Begin with a new file or connection at the next write."""


class FileTarget:
    """The log file; the line's prefix is made once per second and put in at C speed."""

    def __init__(self, file: LogFile, hostname: str) -> None:
        self._file = file
        self._host = hostname.encode("utf-8", "replace")
        self._second = -1
        self._prefix = b""
        self.write = file.write
        self.reopen = file.reopen

    def form(self, lines: bytes) -> bytes:
        if lines.startswith(b"{"):
            return lines
        second = _second(lines)
        if second != self._second:
            self._second = second
            self._prefix = b"%b %b %b: " % (syslog_date(second), self._host, TAG)
        return self._prefix + lines[:-1].replace(b"\n", b"\n" + self._prefix) + b"\n"


class DescriptorTarget:
    """A plain descriptor: standard error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def form(self, lines: bytes) -> bytes:
        return lines

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def reopen(self) -> None:
        pass


class SystemTarget:
    """syslog or the journal, one entry a line."""

    def __init__(self, daemon: Syslog | Journal) -> None:
        self._daemon = daemon
        self.reopen = daemon.close

    def form(self, lines: bytes) -> bytes:
        return lines

    def write(self, data: bytes) -> int:
        taken = 0
        for line in data.splitlines(keepends=True):
            try:
                self._enter(line.rstrip(b"\n"))
            except OSError:
                if not taken:
                    raise
                break
            taken += len(line)
        return taken

    def _enter(self, line: bytes) -> None:
        stamp, _, text = line.partition(b" ")
        if line.startswith(b"{"):
            level = ALERT if b'"event":"alert"' in line else WARNING if b'"event":"warning"' in line else INFO
            entries = [line]
        elif isinstance(self._daemon, Journal):
            level, entries = priority(text), [text]
        else:
            level, entries = priority(text), list(fold(stamp, text))
        for entry in entries:
            if isinstance(self._daemon, Journal):
                self._daemon.send(level, entry)
            else:
                self._daemon.send(level, entry, _second(line))


def target(settings: Settings, directory: Path, hostname: str) -> Target:
    """The target that the settings name."""
    match settings.logtarget:
        case "stderr":
            return DescriptorTarget(2)
        case "syslog":
            return SystemTarget(Syslog(TAG))
        case "journald":
            return SystemTarget(Journal(TAG))
        case _:
            file = LogFile(directory / NAME, settings.logfilebytes, settings.logfilecount)
            return FileTarget(file, hostname)


def _second(lines: bytes) -> int:
    """The second that stands at the front of the first line; now, if none does or it is far from now."""
    now = int(time.time())
    digits = lines[: max(0, lines.find(b".", 0, 16))]
    if not digits.isdigit():
        return now
    second = int(digits)
    return second if abs(second - now) < _DAY else now

"""The log role (user qmaill): takes what the other roles say and puts it where the setting ``logtarget`` says.

What cannot be written (a full disk, a daemon that is down) is kept up to ``KEPT`` octets, then dropped and counted;
how many lines were lost is said as soon as writing works again. USR1 and HUP open the file anew; TERM ends the role
when everything that is waiting has been read. Nothing in a line is trusted: control characters become ``?``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from ekiden.runtime.logtarget import Target, target
from ekiden.settings.schema import Settings

SETTINGS = ("logtarget", "logformat", "logfilebytes", "logfilecount", "me")
"""What a log process begins with: when a reload changes any of it, another takes its place."""

KEPT = 4_194_304
"""Octets kept while they cannot be written."""

_DATAGRAM = 65_536
_BATCH = 262_144
_PATIENCE = 1.0
_CLEAN = bytes(ord("?") if (c < 32 and c != 10) or c == 127 else c for c in range(256))
_STOP = (signal.SIGTERM,)
_REOPEN = (signal.SIGUSR1, signal.SIGHUP)


class Writer:
    """Keeps what a target does not take, within bounds."""

    def __init__(self, target: Target, json: bool = False) -> None:
        self._target = target
        self._json = json
        self._lost = 0
        self._again = 0.0
        self.pending = b""

    def write(self, datagrams: list[bytes]) -> None:
        """Write lines, after those that are pending; never raises for the target's sake."""
        formed = [self._form(lines) for lines in datagrams]
        kept = len(self.pending)
        while formed and kept + sum(map(len, formed)) > KEPT and self.pending:
            self._lost += formed.pop().count(b"\n")
        self.pending += b"".join(formed)
        if time.monotonic() >= self._again:
            self.flush()

    def flush(self) -> None:
        """Try to write what is pending."""
        self._again = 0.0
        try:
            while self.pending:
                self.pending = self.pending[self._target.write(self.pending) :]
                if not self.pending and self._lost:
                    self.pending, self._lost = self._loss(self._lost), 0
        except OSError:
            # A daemon that hangs costs time with every try, in which the other roles' lines pile up.
            self._again = time.monotonic() + _PATIENCE
            self._target.reopen()

    def reopen(self) -> None:
        """Open the target anew, and ask the system for its zone again."""
        time.tzset()
        self._target.reopen()

    @property
    def unwritten(self) -> int:
        """Lines that have not been written: pending or lost."""
        return self._lost + self.pending.count(b"\n")

    def _form(self, lines: bytes) -> bytes:
        lines = lines.translate(_CLEAN)
        return self._target.form(lines if lines.endswith(b"\n") else lines + b"\n")

    def _loss(self, lost: int) -> bytes:
        text = f"warning: {lost} lines of the log are lost"
        now = round(time.time(), 6)
        if self._json:
            record = {"time": now, "role": "log", "event": "warning", "lost": lost, "text": text}
            return msgspec.json.encode(record) + b"\n"
        return self._form(f"{now:.6f} {text}\n".encode())


def serve(sink: socket.socket, settings: Settings, directory: Path, hostname: str) -> None:
    """Write the log until TERM, or until nobody is left who could say something (SOCK_SEQPACKET only).

    ``sink`` is the reading end of the roles' socket pair, ``directory`` the home's ``log`` directory.
    """
    writer = Writer(target(settings, directory, hostname), settings.logformat == "json")
    wakeup, signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    for number in (*_STOP, *_REOPEN):
        signal.signal(number, lambda _number, _frame: None)
    # Control-C in a terminal reaches every process; the other roles still have something to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whoever forked us may have blocked them, so that none comes before it is understood.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP, *_REOPEN))
    try:
        _run(sink, writer, wakeup)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(wakeup)
        os.close(signalled)
    if writer.unwritten:
        print(f"ekiden: log: {writer.unwritten} lines could not be written", file=sys.stderr)


def _run(sink: socket.socket, writer: Writer, wakeup: int) -> None:
    poll = select.poll()
    poll.register(sink, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    stopping = False
    while True:
        datagrams, ended = _receive(sink)
        if datagrams:
            writer.write(datagrams)
        elif ended or stopping:
            writer.flush()
            return
        else:
            poll.poll(_PATIENCE * 1000 if writer.pending else None)
            if writer.pending:
                writer.write([])
        for number in _signals(wakeup):
            if number in _STOP:
                stopping = True
            elif number in _REOPEN:
                writer.reopen()


def _receive(sink: socket.socket) -> tuple[list[bytes], bool]:
    """What is waiting, up to a batch; and whether no more can come."""
    datagrams: list[bytes] = []
    size = 0
    while size < _BATCH:
        try:
            data = sink.recv(_DATAGRAM, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return datagrams, False
        except ConnectionResetError:
            continue
        if not data and sink.type == socket.SOCK_SEQPACKET:
            return datagrams, True
        datagrams.append(data)
        size += len(data)
    return datagrams, False


def _signals(wakeup: int) -> bytes:
    try:
        return os.read(wakeup, 512)
    except BlockingIOError:
        return b""

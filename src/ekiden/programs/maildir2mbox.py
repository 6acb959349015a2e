"""maildir2mbox: move all messages from MAILDIR to the mbox MAIL, by way of MAILTMP (maildir2mbox(1)).

Messages are removed from MAILDIR only when they are safe in MAIL; what cannot be removed then is told, because it
will be moved again. Exit code 0, also when there is nothing new; 111 with the reason if nothing was moved.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ekiden.base.dates import mbox_date
from ekiden.delivery.maildir import clean
from ekiden.delivery.mbox import entry

_READ = 262_144


class _Unable(Exception):
    """The text says what could not be done."""


def main(argv: Sequence[str], home: Path) -> int:
    """Takes no arguments. MAIL and MAILTMP may be relative to MAILDIR, as for the original."""
    os.umask(0o077)
    try:
        mbox, temporary, maildir = map(_variable, (b"MAIL", b"MAILTMP", b"MAILDIR"))
        try:
            os.chdir(maildir)
        except OSError as error:
            raise _Unable(f"unable to chdir to {os.fsdecode(maildir)}: {error.strerror}") from None
        clean(b".", time.time())
        messages = _messages(time.time())
        if messages:
            _move(messages, mbox, temporary)
    except _Unable as reason:
        print(f"maildir2mbox: fatal: {reason}", file=sys.stderr)
        return 111
    return 0


def _variable(name: bytes) -> bytes:
    if name not in os.environb:
        raise _Unable(f"{name.decode()} not set")
    return os.environb[name]


def _messages(now: float) -> list[tuple[float, bytes]]:
    """Time and path of every message, the oldest first; one of this very second waits, to keep the order."""
    found: list[tuple[float, bytes]] = []
    for part in (b"new", b"cur"):
        try:
            with os.scandir(part) as entries:
                for each in entries:
                    if not each.name.startswith(b".") and int(each.stat().st_mtime) < int(now):
                        found.append((each.stat().st_mtime, each.path))
        except OSError as error:
            raise _Unable(f"unable to scan $MAILDIR/{part.decode()}: {error.strerror}") from None
    return sorted(found)


def _move(messages: list[tuple[float, bytes]], mbox: bytes, temporary: bytes) -> None:
    shown, shown_temporary = os.fsdecode(mbox), os.fsdecode(temporary)
    try:
        lock = os.open(mbox, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise _Unable(f"unable to lock {shown}: {error.strerror}") from None
    try:
        with open(temporary, "wb") as new:
            _copy_old(mbox, new)
            for when, path in messages:
                _append(new, when, path)
            new.flush()
            os.fsync(new.fileno())
    except OSError as error:
        raise _Unable(f"unable to write to {shown_temporary}: {error.strerror}") from None
    try:
        os.rename(temporary, mbox)
    except OSError as error:
        raise _Unable(f"unable to move {shown_temporary} to {shown}: {error.strerror}") from None
    _remove(messages)
    os.close(lock)


def _copy_old(mbox: bytes, new: IO[bytes]) -> None:
    with open(mbox, "rb") as old:
        for piece in _pieces(old):
            new.write(piece)


def _append(new: IO[bytes], when: float, path: bytes) -> None:
    with _opened(path) as message:
        new.write(b"From " + _sender(message.readline()) + b" " + mbox_date(when, utc=True) + b"\n")
        message.seek(0)
        for piece in entry(_pieces(message)):
            new.write(piece)


def _opened(path: bytes) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise _Unable(f"unable to read $MAILDIR/{os.fsdecode(path)}: {error.strerror}") from None


def _sender(line: bytes) -> bytes:
    """What stands for the sender in the From_ line, from a message's first line."""
    if not line.startswith(b"Return-Path: <") or not line.endswith(b"\n"):
        return b"XXX"
    return line[14:-2].translate(bytes.maketrans(b" \t", b"--")) or b"MAILER-DAEMON"


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_READ), b"")


def _remove(messages: list[tuple[float, bytes]]) -> None:
    for _when, path in messages:
        try:
            os.unlink(path)
        except OSError as error:
            name = os.fsdecode(path)
            print(
                f"maildir2mbox: warning: $MAILDIR/{name} will be delivered twice; unable to unlink: {error.strerror}",
                file=sys.stderr,
            )

"""maildir2mbox: move all messages from MAILDIR to the mbox MAIL, by way of MAILTMP (maildir2mbox(1)).

Messages are removed from MAILDIR only when they are safe in MAIL; what cannot be removed then is told, because it
will be moved again. Exit code 0, also when there is nothing new; 111 with the reason if nothing was moved.
"""

from __future__ import annotations

import os
import sys
import time

from ekiden.base.dates import mbox_date
from ekiden.delivery.maildir import clean, sync_directory
from ekiden.delivery.mbox import entry
from ekiden.mailstore.dotlock import locked
from ekiden.mailstore.maildrop import MailboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

_READ = 262_144


class _Unable(Exception):
    """The text says what could not be done."""


def main(argv: Sequence[str], home: str) -> int:
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
    shown = os.fsdecode(mbox)
    try:
        with open(mbox, "a+b") as old, locked(mbox, old.fileno()):
            if not os.fstat(old.fileno()).st_nlink:
                raise _Unable(f"unable to lock {shown}: another program has replaced it")
            _replace(old, messages, mbox, temporary)
            _remove(messages)
    except MailboxError as error:
        raise _Unable(f"unable to lock {shown}: {error}") from None
    except OSError as error:
        raise _Unable(f"unable to lock {shown}: {error.strerror}") from None


def _replace(old: IO[bytes], messages: list[tuple[float, bytes]], mbox: bytes, temporary: bytes) -> None:
    """Put a file with all that ``old`` has, and the messages, in its place."""
    shown, shown_temporary = os.fsdecode(mbox), os.fsdecode(temporary)
    try:
        with open(temporary, "wb") as new:
            # Not opened once more: closing that would give up fcntl's lock.
            old.seek(0)
            for piece in _pieces(old):
                new.write(piece)
            for when, path in messages:
                _append(new, when, path)
            new.flush()
            os.fsync(new.fileno())
    except OSError as error:
        raise _Unable(f"unable to write to {shown_temporary}: {error.strerror}") from None
    try:
        os.rename(temporary, mbox)
        sync_directory(os.path.dirname(mbox) or b".")
    except OSError as error:
        raise _Unable(f"unable to move {shown_temporary} to {shown}: {error.strerror}") from None


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

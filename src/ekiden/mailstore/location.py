"""Which mailbox a user has, and opening it."""

from __future__ import annotations

import os

from ekiden.mailstore.maildir import Maildir
from ekiden.mailstore.maildrop import Maildrop, permanent
from ekiden.mailstore.spool import Spool


def mailbox_path(pattern: bytes, user: bytes, default_delivery: bytes) -> bytes:
    """The setting ``pop3mailbox`` for this user: ``%u`` is the name; without it what mail is delivered to by default.

    Raises MailboxError for a name that cannot be part of a path.
    """
    if not pattern:
        lines = default_delivery.split(b"\n")
        pattern = next((line.strip() for line in lines if line[:1] in (b".", b"/")), b"./Mailbox")
    if b"%u" in pattern and (b"/" in user or user.startswith(b".")):
        raise permanent("this user has no mailbox")
    return pattern.replace(b"%u", user)


def open_mailbox(path: bytes, place: bytes) -> Maildrop:
    """A Maildir if the path ends with a slash or is a directory, else an mbox file. Raises MailboxError.

    ``place`` is a directory where notes about an mbox may be kept, usually the user's home.
    """
    if _is_maildir(path):
        return Maildir(path.rstrip(b"/") or b"/")
    return Spool(path, place)


def places(path: bytes, place: bytes) -> list[bytes]:
    """The directories below which a maildrop that ``open_mailbox`` gives opens, makes, moves and removes files.

    An mbox needs the directory that it is in: there it is locked, and written anew.
    """
    if _is_maildir(path):
        return [path, *(os.path.join(path, part) for part in (b"new", b"cur", b"tmp"))]
    return [place, os.path.dirname(path) or b".", os.path.dirname(os.path.realpath(path))]


def _is_maildir(path: bytes) -> bool:
    return path.endswith(b"/") or os.path.isdir(path)

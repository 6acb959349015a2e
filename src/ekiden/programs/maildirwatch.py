"""maildirwatch: a summary of the new mail in MAILDIR, twice a minute, on a terminal that it clears each time.

Runs until it is ended. Exit code 111, with the reason, if the Maildir cannot be read.
"""

from __future__ import annotations

import os
import sys
import time

from ekiden.base.header_body import HeaderBody, field_name, field_text, for_terminal
from ekiden.delivery.maildir import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSE = 30.0
"""Seconds between summaries."""

_CLEAR = b"\033[;H\033[;J"
_BOLD = b"\033[1m%b\033[0m\n"
_GIST_OCTETS = 158
_READ = 65_536


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    maildir = os.environb.get(b"MAILDIR")
    if maildir is None:
        print("maildirwatch: fatal: MAILDIR not set", file=sys.stderr)
        return 111
    try:
        while True:
            clean(maildir, time.time())
            sys.stdout.buffer.write(_CLEAR + b"".join(map(_summary, _new(maildir))))
            sys.stdout.buffer.flush()
            time.sleep(PAUSE)
    except OSError as error:
        print(f"maildirwatch: fatal: unable to scan $MAILDIR/new: {error.strerror}", file=sys.stderr)
        return 111


def _new(maildir: bytes) -> list[bytes]:
    """The paths of the messages not seen yet, the oldest first."""
    with os.scandir(os.path.join(maildir, b"new")) as entries:
        found = [(each.stat().st_mtime, each.path) for each in entries if not each.name.startswith(b".")]
    return [path for _when, path in sorted(found)]


def _summary(path: bytes) -> bytes:
    """Sender and recipient, the From field, the subject and the beginning of the body."""
    said = {b"return-path": b"?", b"delivered-to": b"?", b"from": b""}
    gist = b""
    try:
        with open(path, "rb", buffering=_READ) as message:
            read = HeaderBody(message)
            for field in read.fields():
                name = field_name(field)
                if name == b"subject":
                    gist += field_text(field)
                elif name in said:
                    said[name] = field[:-1] if name == b"from" else field_text(field)[:-1]
            for piece in read.body():
                if len(gist) >= _GIST_OCTETS:
                    break
                gist += piece
    except FileNotFoundError:
        return b""
    sender, recipient = for_terminal(said[b"return-path"], b"?"), for_terminal(said[b"delivered-to"], b"?")
    author = _BOLD % for_terminal(said[b"from"], b"/") if said[b"from"] else b""
    return b"FROM %b TO <%b>\n%b%b\n\n" % (sender, recipient, author, for_terminal(gist[:_GIST_OCTETS], b"/"))

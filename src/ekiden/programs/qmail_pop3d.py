"""qmail-pop3d: let the user that this process is read and delete mail on descriptors 0 and 1 (qmail-pop3d(8)).

Started by checkpassword, when the password was right. An mbox file can be given in the place of the Maildir.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ekiden.mailstore.location import open_mailbox
from ekiden.mailstore.maildrop import MailboxError
from ekiden.runtime.pop3.session import Session
from ekiden.runtime.pop3.stream import Gone, Stream
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server
from ekiden.wire.pop3.session import error

_SECONDS = 1200


def main(argv: Sequence[str], home: str) -> int:
    """One argument: the mailbox, relative to where the process stands, which is the user's home."""
    if os.getuid() == 0:
        # To qmail-popup this is a login that failed.
        print("qmail-pop3d: invoked as uid 0, terminating", file=sys.stderr)
        return 1
    stream = Stream(0, 1, _SECONDS)
    try:
        if len(argv) != 1:
            stream.write(error("usage: qmail-pop3d mailbox", "SYS/PERM"))
            return 0
        try:
            drop = open_mailbox(_named(os.fsencode(argv[0])), b".")
        except MailboxError as refused:
            stream.write(error(refused.text, refused.code))
            return 0
    except Gone:
        return 0
    server = Server(Profile())
    server.open(len(drop))
    Session(server, drop, stream, blank_line=True).serve()
    return 0


def _named(path: bytes) -> bytes:
    """The mailbox, with the slash of a Maildir if only its name tells: an mbox may be absent, a Maildir may not."""
    is_absent_maildir = os.path.basename(path) == b"Maildir" and not os.path.lexists(path)
    return path + b"/" if is_absent_maildir else path

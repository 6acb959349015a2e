"""A mail reader for mboxes, started after the mail that came into a Maildir was moved (elq, pinq, qail)."""

from __future__ import annotations

import os
import sys

from ekiden.runtime.classic.child import Crashed, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def read_mail(name: str, reader: str, argv: Sequence[str], home: str) -> int:
    """Run maildir2mbox, then become ``reader``; returns only an exit code for what went wrong, and says what."""
    try:
        code = run([os.path.join(home, "bin", "maildir2mbox")])
    except Crashed:
        code = 111
    if code:
        return code
    try:
        os.execvp(reader, [reader, *argv])
    except OSError as error:
        print(f"{name}: fatal: unable to run {reader}: {error.strerror}", file=sys.stderr)
        return 111

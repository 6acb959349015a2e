"""qmail-tcpok: forget which addresses timed out, so that they are tried again (qmail-tcpok.8).

While ekiden does not run the file is read, by whoever may. Exit code 111 if neither is possible.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.runtime.books import Closed, books
from ekiden.runtime.control_frames import Hosts


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        with books(Path(home)) as ask:
            ask(Hosts(forget=True))
    except Closed as reason:
        print(f"qmail-tcpok: fatal: {reason}", file=sys.stderr)
        return 111
    return 0

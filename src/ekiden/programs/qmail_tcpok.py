"""qmail-tcpok: forget which addresses timed out, so that they are tried again (qmail-tcpok.8).

Exit code 111 if the queue does not answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.runtime.administration import Hosts
from ekiden.runtime.control import request


def main(argv: Sequence[str], home: Path) -> int:
    """Takes no arguments."""
    try:
        request(home, Hosts(forget=True))
    except OSError as error:
        print(f"qmail-tcpok: fatal: the queue does not answer: {error.strerror or error}", file=sys.stderr)
        return 111
    return 0

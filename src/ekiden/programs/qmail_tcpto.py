"""qmail-tcpto: the addresses that timed out lately and are left alone for a while (qmail-tcpto.8).

While ekiden does not run the file is read, by whoever may. Exit code 111 if neither is possible.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ekiden.runtime.books import Closed, books
from ekiden.runtime.control_frames import Hosts, Rows


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        with books(Path(home)) as ask:
            answer = ask(Hosts())
    except Closed as reason:
        print(f"qmail-tcpto: fatal: {reason}", file=sys.stderr)
        return 111
    assert isinstance(answer, Rows)
    for host in map(msgspec.json.decode, answer.rows):
        ago = max(0, int(time.time() - host["since"]))
        print(f"{host['address']} timed out {ago} seconds ago; # recent timeouts: {host['count']}")
    return 0

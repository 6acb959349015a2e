"""qmail-tcpto: the addresses that timed out lately and are left alone for a while (qmail-tcpto.8).

Exit code 111 if the queue does not answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ekiden.runtime.administration import Hosts, Rows
from ekiden.runtime.control import request


def main(argv: Sequence[str], home: Path) -> int:
    """Takes no arguments."""
    try:
        answer = request(home, Hosts())
    except OSError as error:
        print(f"qmail-tcpto: fatal: the queue does not answer: {error.strerror or error}", file=sys.stderr)
        return 111
    assert isinstance(answer, Rows)
    for host in map(msgspec.json.decode, answer.rows):
        ago = max(0, int(time.time() - host["since"]))
        print(f"{host['address']} timed out {ago} seconds ago; # recent timeouts: {host['count']}")
    return 0

"""qmail-qstat: how many messages are in the queue (qmail-qstat.8).

While ekiden does not run the store itself is asked, by whoever may. Exit code 111 if neither is possible.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ekiden.runtime.books import Closed, books
from ekiden.runtime.control_frames import Rows, Status


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        with books(Path(home)) as ask:
            answer = ask(Status())
    except Closed as reason:
        print(f"qmail-qstat: fatal: {reason}", file=sys.stderr)
        return 111
    assert isinstance(answer, Rows)
    figures = msgspec.json.decode(answer.rows[0])
    print("messages in queue:", figures["messages"])
    print("messages in queue but not yet preprocessed:", figures["unprocessed"])
    return 0

"""qmail-qstat: how many messages are in the queue (qmail-qstat.8). Exit code 111 if the queue does not answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ekiden.runtime.administration import Rows, Status
from ekiden.runtime.control import request


def main(argv: Sequence[str], home: Path) -> int:
    """Takes no arguments."""
    try:
        answer = request(home, Status())
    except OSError as error:
        print(f"qmail-qstat: fatal: the queue does not answer: {error.strerror or error}", file=sys.stderr)
        return 111
    assert isinstance(answer, Rows)
    figures = msgspec.json.decode(answer.rows[0])
    print("messages in queue:", figures["messages"])
    print("messages in queue but not yet preprocessed:", figures["unprocessed"])
    return 0

"""qmail-qread: every message in the queue and its recipients (qmail-qread.8).

A recipient that is done is shown as ``done`` while others of its message are still to be reached in the same way,
here or elsewhere; ``bouncing`` says that the sender is going to be told of a failure. While ekiden does not run the
store itself is read, by whoever may. Exit code 111 if neither is possible.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ekiden.base.dates import utc_date
from ekiden.runtime.books import Ask, Closed, books, ledger, queued


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        with books(Path(home)) as ask:
            for message in queued(ask):
                _print(message, ask)
    except Closed as reason:
        print(f"qmail-qread: fatal: {reason}", file=sys.stderr)
        return 111
    return 0


def _print(message: dict[str, Any], ask: Ask) -> None:
    when = utc_date(message["birth"]).decode().replace("-0000", "GMT")
    bouncing = " bouncing" if message["bouncing"] else ""
    print(f"{when}  #{message['id']}  {message['bytes']}  <{_safe(message['sender'])}> {bouncing}")
    waiting = [(each["destination"].startswith("local:"), each["recipient"]) for each in message["recipients"]]
    done = _done(message["id"], ask) if message["accepted"] > len(waiting) else []
    for local, channel in ((True, "local"), (False, "remote")):
        there = [recipient for here, recipient in waiting if here == local]
        if there:
            for recipient in (recipient for here, recipient in done if here == local):
                print(f"  done\t{channel}\t{_safe(recipient)}")
        for recipient in there:
            print(f"\t{channel}\t{_safe(recipient)}")


def _done(message: int, ask: Ask) -> list[tuple[bool, str]]:
    """The recipients that came to an end, each with whether it is local."""
    return [(end["local"], end["recipient"]) for entry in ledger(ask, message - 1, message) for end in entry["ends"]]


def _safe(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "_" for char in text)

"""qmail-qread: every message in the queue and its recipients still to be delivered (qmail-qread.8).

Exit code 111 if the queue does not answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ekiden.queue.inspect import Filter
from ekiden.runtime.administration import List, Rows
from ekiden.runtime.control import Asking

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def main(argv: Sequence[str], home: Path) -> int:
    """Takes no arguments."""
    after = 0
    try:
        with Asking(home) as asking:
            while True:
                answer = asking.ask(List(after, 200, Filter()))
                assert isinstance(answer, Rows)
                for row in answer.rows:
                    _print(msgspec.json.decode(row))
                after = answer.next
                if not after:
                    return 0
    except OSError as error:
        print(f"qmail-qread: fatal: the queue does not answer: {error.strerror or error}", file=sys.stderr)
        return 111


def _print(message: dict[str, Any]) -> None:
    born = time.gmtime(message["birth"])
    month = _MONTHS[born.tm_mon - 1]
    when = f"{born.tm_mday} {month} {born.tm_year} {born.tm_hour:02}:{born.tm_min:02}:{born.tm_sec:02} GMT"
    print(f"{when}  #{message['id']}  {message['bytes']}  <{_safe(message['sender'])}> ")
    for recipient in message["recipients"]:
        channel = "local" if recipient["destination"].startswith("local:") else "remote"
        print(f"\t{channel}\t{_safe(recipient['recipient'])}")


def _safe(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "_" for char in text)

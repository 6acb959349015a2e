"""instcheck: what in this home has another owner, group or mode than it was installed with, or is missing.

Each difference is a line on standard error; there is none if all is right. Exit code 0 whatever is found; 100 for
wrong arguments; 111 if there is no home, or qmail's users do not exist.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.installation.accounts import Owners
from ekiden.installation.tree import QUEUE, Entry, faults, tree


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the arguments without the program's name: none, or ``queue-only``."""
    if argv and list(argv) != ["queue-only"]:
        print("instcheck: usage: instcheck [ queue-only ]", file=sys.stderr)
        return 100
    place = Path(home)
    try:
        os.listdir(place)
        owners = Owners(place)
    except OSError as error:
        return _die(f"unable to switch to {home}: {error.strerror}")
    if missing := owners.missing():
        return _die(*(f"there is no {name}" for name in missing))
    for entry in tree(place, owners):
        if not argv or entry.path == QUEUE:
            _check(place, entry, owners)
    return 0


def _check(home: Path, entry: Entry, owners: Owners) -> None:
    # Of a file the original names only where it is in the home; of a directory all.
    shown = f".../{entry.path}" if entry.text is not None else str(home / entry.path)
    try:
        for fault in faults(home, entry, owners):
            _warn(f"{shown} {fault.value}")
    except OSError as error:
        _warn(f"unable to stat .../{entry.path}: {error.strerror}")


def _warn(text: str) -> None:
    print(f"instcheck: warning: {text}", file=sys.stderr)


def _die(*texts: str) -> int:
    for text in texts:
        print(f"instcheck: fatal: {text}", file=sys.stderr)
    return 111

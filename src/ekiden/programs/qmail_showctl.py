"""qmail-showctl: what this home is, and what every control file says, in sentences (qmail-showctl(8)).

Exit code 0; 111 if there is no control directory.
"""

from __future__ import annotations

import grp
import pwd
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ekiden.settings.description import CONCURRENCY_LIMIT
from ekiden.settings.telling import printable, tell

USERS = ("alias", "qmaild", "qmaill", "root", "qmailp", "qmailq", "qmailr", "qmails")
GROUPS = ("nofiles", "qmail")

BREAK = "-"
"""What parts user and extension in a local part."""

PATERNALISM = 0o002
"""Mode bits that a home directory and a .qmail file may not have (dot-qmail(5))."""

SPLIT = 1
"""Directories that the queue's files are spread over: all are in one, as file systems index their directories now."""


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the arguments without the program's name: none."""
    if argv:
        print("qmail-showctl: usage: qmail-showctl", file=sys.stderr)
        return 100
    control = Path(home, "control")
    for line in describe_home(Path(home)):
        print(line)
    if not control.is_dir():
        print(f"Oops! There is no directory {printable(bytes(control))}.")
        return 111
    for paragraph in tell(control):
        print(f"\n{paragraph}", end="")
    return 0


def describe_home(home: Path) -> Iterator[str]:
    """The report's head, line by line: what is not in any control file."""
    users, missing_users = _ids(USERS, lambda name: pwd.getpwnam(name).pw_uid, _owner(home)[0])
    groups, missing_groups = _ids(GROUPS, lambda name: grp.getgrnam(name).gr_gid, _owner(home)[1])
    yield f"qmail home directory: {printable(bytes(home))}."
    yield f"user-ext delimiter: {BREAK}."
    yield f"paternalism (in decimal): {PATERNALISM}."
    yield f"silent concurrency limit: {CONCURRENCY_LIMIT}."
    yield f"subdirectory split: {SPLIT}."
    yield f"user ids: {', '.join(map(str, users))}."
    yield f"group ids: {', '.join(map(str, groups))}."
    if missing := missing_users + missing_groups:
        yield f"not on this system, and shown as the home's owner: {', '.join(missing)}."


def _owner(home: Path) -> tuple[int, int]:
    """Who stands in for users and groups that do not exist."""
    try:
        status = home.stat()
    except OSError:
        return 0, 0
    return status.st_uid, status.st_gid


def _ids(names: Sequence[str], find: Callable[[str], int], substitute: int) -> tuple[list[int], list[str]]:
    """The ids of ``names``, and which of them do not exist."""
    ids: list[int] = []
    missing: list[str] = []
    for name in names:
        try:
            ids.append(find(name))
        except KeyError:
            ids.append(substitute)
            missing.append(name)
    return ids, missing

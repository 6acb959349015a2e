"""qmail's users and groups: which of them this machine lacks, adding them, and whom their names mean in a home."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

GROUPS = ("qmail", "nofiles")

USERS = {
    "alias": "nofiles",
    "qmaild": "nofiles",
    "qmaill": "nofiles",
    "qmailp": "nofiles",
    "qmailq": "qmail",
    "qmailr": "qmail",
    "qmails": "qmail",
}
"""Each user's group. The home is the home directory of all but alias, who has alias/ in it."""


class NotAdded(Exception):
    """A user or group could not be added; the text says why."""


class Owners:
    """Who owns what in one home.

    In root's home, qmail's users; a home of anybody else's is all that user's own, whose groups do not matter. A
    home that does not exist yet will be the caller's.
    """

    def __init__(self, home: Path) -> None:
        try:
            self.everyone = home.stat().st_uid
        except FileNotFoundError:
            self.everyone = os.geteuid()
        self.are_qmails = self.everyone == 0

    def uid(self, user: str) -> int | None:
        """A user's number, None if there is no such user."""
        if not self.are_qmails:
            return self.everyone
        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            return None

    def gid(self, group: str) -> int | None:
        """A group's number, None if there is no such group. Not to be asked where groups do not matter."""
        try:
            return grp.getgrnam(group).gr_gid
        except KeyError:
            return None

    def missing(self) -> list[str]:
        """``group NAME`` and ``user NAME`` for those that are needed and do not exist."""
        if not self.are_qmails:
            return []
        groups = [f"group {name}" for name in GROUPS if self.gid(name) is None]
        return groups + [f"user {name}" for name in USERS if self.uid(name) is None]


def additions(home: Path, missing: list[str]) -> Iterator[tuple[str, list[str]]]:
    """For each that is missing, a line that says so and the command that adds it, with a system id."""
    for entry in missing:
        kind, name = entry.split()
        if kind == "group":
            yield f"add group {name}", ["groupadd", "--system", name]
            continue
        place = str(home / "alias" if name == "alias" else home)
        options = ["--gid", USERS[name], "--home-dir", place, "--shell", "/usr/sbin/nologin"]
        yield (
            f"add user {name} of group {USERS[name]}",
            ["useradd", "--system", "--no-log-init", "--no-create-home", *options, name],
        )


def add(command: list[str]) -> None:
    """Run one command of ``additions``; raises ``NotAdded``."""
    # An administrator's path need not have the system's programs, as after su without -l.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    except OSError as error:
        raise NotAdded(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise NotAdded(f"{command[0]} {command[-1]}: {said}")

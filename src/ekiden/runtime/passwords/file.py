"""control/pop3users: names, secrets and, if they are not the system's users, whose mailbox that is.

A line is ``name:secret``, ``name:secret:uid:gid:home`` or ``name:secret:uid:gid:home:mailbox``; colons of a secret
are written as they are in the form SCRAM-SHA-256 only. Blank lines and lines that begin with ``#`` do not count. The
file is read anew when it has changed.
"""

from __future__ import annotations

import os
from pathlib import Path

from ekiden.routing.users import Users, UsersUnavailable
from ekiden.runtime.passwords.secret import Account, Entry, Unavailable
from ekiden.settings.lines import entries
from ekiden.settings.problem import Problem

FILE = "control/pop3users"
FORM = "a line is name:secret, name:secret:uid:gid:home or name:secret:uid:gid:home:mailbox"

Line = tuple[bytes, list[bytes]]
"""A secret and the fields behind it."""


class PasswordFile:
    """The file at ``path``; names without a uid are ``users``'s."""

    def __init__(self, path: Path, users: Users) -> None:
        self._path = path
        self._users = users
        self._version: tuple[int, ...] = ()
        self._lines: dict[bytes, Line] = {}
        self.problems: list[Problem] = []

    def find(self, name: bytes) -> Entry | None:
        """The user of that name; None if there is none. Raises Unavailable."""
        self._refresh()
        line = self._lines.get(name)
        if line is None:
            return None
        secret, fields = line
        return Entry(_account(name, fields) if fields else self._known(name), secret)

    def _known(self, name: bytes) -> Account:
        """A name without a uid is a user of the home's, as mail is delivered to it."""
        try:
            user = self._users.find(name)
        except UsersUnavailable as error:
            raise Unavailable(str(error)) from None
        if user.ext or user.dash:
            raise Unavailable(f"control/pop3users: {name.decode('utf-8', 'replace')} is no user of its own")
        return Account(user.name, user.uid, user.gid, user.home)

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
            version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if version == self._version:
                return
            raw = self._path.read_bytes()
        except FileNotFoundError:
            self._lines, self._version = {}, ()
            return
        except OSError as error:
            raise Unavailable(f"control/pop3users cannot be read: {error.strerror}") from None
        self._lines, self.problems = parse(raw)
        self._version = version


def parse(raw: bytes) -> tuple[dict[bytes, Line], list[Problem]]:
    """The users in the file, and what is wrong with it; lines that are wrong are left out."""
    lines: dict[bytes, Line] = {}
    problems = []
    for number, entry in entries(raw):
        name, _colon, rest = entry.partition(b":")
        secret, fields = _split(rest)
        fault = "the name was given above" if name in lines else _fault(name, secret, fields)
        if fault:
            problems.append(Problem(file=FILE, line=number, message=fault, remedy=FORM, fatal=False))
        else:
            lines[name] = secret, fields
    return lines, problems


def _split(rest: bytes) -> tuple[bytes, list[bytes]]:
    """The secret and the fields behind it. SCRAM's secret has two colons of its own."""
    parts = rest.split(b":")
    own = 3 if rest.startswith(b"SCRAM-SHA-256$") else 1
    return b":".join(parts[:own]), parts[own:]


def _fault(name: bytes, secret: bytes, fields: list[bytes]) -> str:
    """What is wrong with a line; empty if nothing is."""
    if not name or not secret:
        return "there is no name, or no secret"
    if not fields:
        return ""
    if len(fields) not in (3, 4):
        return "there are too few fields, or too many"
    uid, gid, home = fields[:3]
    if not all(text.isdigit() and len(text) <= 10 and int(text) < 1 << 32 for text in (uid, gid)):
        return "uid and gid must be numbers"
    if not int(uid):
        return "root reads no mail"
    return "" if home.startswith(b"/") else "the home must begin with a slash"


def _account(name: bytes, fields: list[bytes]) -> Account:
    uid, gid, home = fields[:3]
    return Account(name, int(uid), int(gid), home, mailbox=fields[3] if len(fields) > 3 else b"")

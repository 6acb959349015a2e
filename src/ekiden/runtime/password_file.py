"""control/pop3users: names, secrets and, if they are not the system's users, whose mailbox that is.

A line is ``name:secret``, ``name:secret:uid:gid:home`` or ``name:secret:uid:gid:home:mailbox``; colons of a secret
are written as they are in the form SCRAM-SHA-256 only. Blank lines and lines that begin with ``#`` do not count. The
file is read anew when it has changed.
"""

from __future__ import annotations

import os
from pathlib import Path

from ekiden.routing.users import Users, UsersUnavailable
from ekiden.runtime.password import Account, Entry, Unavailable
from ekiden.settings.file import entries

Line = tuple[bytes, list[bytes]]
"""A secret and the fields behind it."""


class PasswordFile:
    """The file at ``path``; names without a uid are ``users``'s."""

    def __init__(self, path: Path, users: Users) -> None:
        self._path = path
        self._users = users
        self._version: tuple[int, ...] = ()
        self._lines: dict[bytes, Line] = {}
        self.problems: list[str] = []

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


def parse(raw: bytes) -> tuple[dict[bytes, Line], list[str]]:
    """The users in the file, and what is wrong with it in words."""
    lines: dict[bytes, Line] = {}
    problems = []
    for number, entry in entries(raw):
        name, _colon, rest = entry.partition(b":")
        secret, fields = _split(rest)
        if not name or not secret or len(fields) not in (0, 3, 4) or (fields and not _are_good(fields)):
            problems.append(f"control/pop3users:{number}: a line is name:secret or name:secret:uid:gid:home:mailbox")
        elif name in lines:
            problems.append(f"control/pop3users:{number}: the name was given above")
        else:
            lines[name] = secret, fields
    return lines, problems


def _split(rest: bytes) -> tuple[bytes, list[bytes]]:
    """The secret and the fields behind it. SCRAM's secret has two colons of its own."""
    parts = rest.split(b":")
    own = 3 if rest.startswith(b"SCRAM-SHA-256$") else 1
    return b":".join(parts[:own]), parts[own:]


def _are_good(fields: list[bytes]) -> bool:
    uid, gid, home = fields[:3]
    return all(text.isdigit() and 0 < int(text) < 1 << 32 for text in (uid, gid)) and home.startswith(b"/")


def _account(name: bytes, fields: list[bytes]) -> Account:
    uid, gid, home = fields[:3]
    return Account(name, int(uid), int(gid), home, mailbox=fields[3] if len(fields) > 3 else b"")

"""qmail-lspawn: local deliveries for qmail-send: commands on descriptor 0, results on descriptor 1 (qmail-lspawn.8).

Each delivery runs qmail-local in a process that became the recipient's user. The protocol is in runtime.spawner.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import ekiden.base.dates
from ekiden.delivery.report import cut
from ekiden.programs import qmail_local
from ekiden.routing.users import User, Users, UsersUnavailable
from ekiden.runtime import process_title
from ekiden.runtime.spawner import Refused, Spawner

_HARD = b"D"
_SOFT_CODES = frozenset({111, 71, 74, 75})
_LETTERS = {0: b"K"} | dict.fromkeys(_SOFT_CODES, b"Z")


NEEDED = (re, signal, ekiden.base.dates)
"""What deliveries import when they need it: a recipient's user may not be able to read our files."""


def main(argv: Sequence[str], home: Path) -> int:
    """Takes the default delivery instructions."""
    if not argv:
        return 100
    process_title.show(("qmail-lspawn", argv[0]))
    os.umask(0o077)
    LocalSpawner(argv[0], home).serve()
    return 0


class LocalSpawner(Spawner):
    """Finds the recipient's user, and has a process of that user deliver."""

    def __init__(self, default: str, home: Path) -> None:
        super().__init__(home)
        self._default = default
        self._home = home
        self._users = Users(home)
        self._user: User | None = None

    def look_up(self, local: bytes) -> None:
        try:
            self._user = self._users.find(local) if local else None
        except UsersUnavailable as error:
            raise Refused(f"Z{error}\n") from None

    def work(self, message: int, output: int, sender: bytes, local: bytes, domain: bytes) -> NoReturn:
        """Become the user and run qmail-local. Mail for an empty local part is thrown away."""
        user, code = self._user, 111
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            if user is None:
                os._exit(0)
            if os.geteuid() == 0:
                os.setgroups([user.gid])
                os.setresgid(user.gid, user.gid, user.gid)
                os.setresuid(user.uid, user.uid, user.uid)
            fields = (user.name, user.home, local, user.dash, user.ext, domain, sender)
            code = qmail_local.main(["--", *map(os.fsdecode, fields), self._default], self._home)
        except BaseException as error:
            os.write(2, f"Unable to deliver: {error}. (#4.3.0)\n".encode("utf-8", "replace"))
        finally:
            os._exit(code)

    def report(self, code: int, output: bytes) -> bytes:
        if code < 0:
            return b"Zqmail-local crashed.\n"
        return _LETTERS.get(code, _HARD) + cut(output)

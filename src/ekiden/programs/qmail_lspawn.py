"""qmail-lspawn: local deliveries for qmail-send: commands on descriptor 0, results on descriptor 1 (qmail-lspawn.8).

Each delivery is a process that became the recipient's user and does what qmail-local does, or runs the program that
stands in its place in HOME/bin. The protocol is in runtime.classic.spawner.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import ekiden.base.dates
from ekiden.delivery.report import cut
from ekiden.programs import qmail_local
from ekiden.routing.users import User, Users, UsersUnavailable
from ekiden.runtime.classic import process_title
from ekiden.runtime.classic.spawner import Refused, Spawner
from ekiden.runtime.classic.submission import is_foreign
from ekiden.runtime.user_process import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_HARD = b"D"
_SOFT_CODES = frozenset({111, 71, 74, 75})
_LETTERS = {0: b"K"} | dict.fromkeys(_SOFT_CODES, b"Z")


NEEDED = (re, signal, ekiden.base.dates)
"""What deliveries import when they need it: a recipient's user may not be able to read our files."""


def main(argv: Sequence[str], home: str) -> int:
    """Takes the default delivery instructions."""
    if not argv:
        return 100
    process_title.show(("qmail-lspawn", argv[0]))
    os.umask(0o077)
    LocalSpawner(argv[0], home).serve()
    return 0


class LocalSpawner(Spawner):
    """Finds the recipient's user, and has a process of that user deliver."""

    def __init__(self, default: str, home: str) -> None:
        super().__init__(home)
        self._default = default
        self._home = home
        self._users = Users(Path(home))
        self._user: User | None = None
        self._is_foreign = False

    def look_up(self, local: bytes) -> None:
        try:
            self._user = self._users.find(local) if local else None
            # Now, because the user may not be allowed to read it.
            self._is_foreign = is_foreign(self._home, "qmail-local")
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
            become(user.uid, user.gid)
            fields = (user.name, user.home, local, user.dash, user.ext, domain, sender)
            arguments = ["--", *map(os.fsdecode, fields), self._default]
            if self._is_foreign:
                os.chdir(self._home)
                os.execv("bin/qmail-local", ["bin/qmail-local", *arguments])
            code = qmail_local.main(arguments, self._home)
        except BaseException as error:
            os.write(2, f"Unable to deliver: {error}. (#4.3.0)\n".encode("utf-8", "replace"))
        finally:
            os._exit(code)

    def report(self, code: int, output: bytes) -> bytes:
        if code < 0:
            return b"Zqmail-local crashed.\n"
        return _LETTERS.get(code, _HARD) + cut(output)

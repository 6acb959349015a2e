"""The system's users as a process finds them that is fenced in, and that must not take one for missing.

The C library asks whom nsswitch.conf(5) names, and reads that file again when it has changed: a database that comes
in then cannot be loaded any more behind a fence, and one of which is not known what it needs may get nothing there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ekiden.routing.users import Account, UsersUnavailable, system_account
from ekiden.runtime.passwords.system import DATABASES

SWITCH = Path("/etc/nsswitch.conf")
PASSWD = Path("/etc/passwd")

FENCEABLE = frozenset({"files", "systemd", "sss", "db", "extrausers"})
"""Sources that read below DATABASES, or ask a daemon by a unix socket."""

_ACTIONS = re.compile(r"\[[^]]*\]")


def strange_sources(text: str) -> list[str]:
    """The sources of users that nsswitch.conf(5) names and of which is not known what they need."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    sources = [line.partition(":")[2] for line in lines if line.partition(":")[0].strip() == "passwd"]
    if not sources:
        return ["the C library's own choice"]
    return [source for source in _ACTIONS.sub(" ", sources[0]).split() if source not in FENCEABLE]


def unfenceable() -> str:
    """Why looking users up might fail behind a fence; empty if it will not."""
    try:
        strange = strange_sources(SWITCH.read_text(errors="replace"))
    except OSError as error:
        return f"{SWITCH}: {error.strerror}"
    return f"{SWITCH} has users looked up in {', '.join(strange)}" if strange else ""


def places() -> list[Path]:
    """What has to stay readable."""
    return [*map(Path, DATABASES), PASSWD.resolve().parent]


class Accounts:
    """To be made before the fence, when users have been looked up once.

    ``changed`` is called when users are looked up in other places than then.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._version = _version()
        self._changed = changed

    def find(self, name: bytes) -> Account | None:
        """The account of that name; raises UsersUnavailable if none was found for another reason than that it is not
        there.
        """
        account = system_account(name)
        if _version() != self._version:
            self._changed()
            raise UsersUnavailable(f"{SWITCH} has changed. (#4.3.0)")
        if account is None:
            try:
                os.close(os.open(PASSWD, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                raise UsersUnavailable(f"Unable to read {PASSWD}: {error.strerror}. (#4.3.0)") from None
        return account


def _version() -> tuple[int, ...]:
    try:
        status = os.stat(SWITCH)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

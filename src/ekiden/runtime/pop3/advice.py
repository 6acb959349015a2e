"""What is wrong with the files that say who may log in, by POP3 and by AUTH.

For ``ekiden check``, and for the log when the keepers start.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ekiden.runtime.passwords.client import MECHANISMS as AUTH
from ekiden.runtime.passwords.file import parse
from ekiden.runtime.passwords.verifier import Verifier
from ekiden.runtime.pop3.listening import APOP, MECHANISMS
from ekiden.runtime.privilege import identities
from ekiden.settings.control import read
from ekiden.settings.problem import Problem, SettingsError
from ekiden.settings.schema import Settings

_USERS = "control/pop3users"


def pop3_problems(home: Path) -> list[Problem]:
    """Warnings, if the settings can be read; what else is wrong with those is told by ``settings.control``."""
    try:
        return problems(home, read(home / "control"))
    except SettingsError:
        return []


def problems(home: Path, settings: Settings) -> list[Problem]:
    """Warnings: none of them keeps the others from being served."""
    mechanisms = _of_mechanisms("pop3mechanisms", settings.pop3mechanisms, [*MECHANISMS, APOP])
    return [*_of_users(home), *_of_sources(settings), *mechanisms, *_of_auth(settings)]


def _warning(file: str, message: str, remedy: str) -> Problem:
    return Problem(file=file, message=message, remedy=remedy, fatal=False)


def _of_users(home: Path) -> Iterator[Problem]:
    path = home / _USERS
    try:
        status = path.stat()
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        yield _warning(_USERS, f"cannot be read: {error.strerror}", "let the server's user read it")
        return
    if status.st_mode & (stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        yield _warning(_USERS, "can be read or changed by others", f"chmod 600 {_USERS}")
    keeper = identities(home).roles["keeper"]
    if keeper is not None and not keeper.may_read(status):
        yield _warning(_USERS, "cannot be read by the user that checks passwords", f"chown {keeper.uid} {path}")
    yield from parse(raw)[1]


def _of_sources(settings: Settings) -> Iterator[Problem]:
    for name in settings.pop3passwords:
        try:
            Verifier.check_source(name)
        except ValueError as error:
            yield _warning("control/pop3passwords", f"{error}; nobody gets in by it", "correct the line")


def _of_mechanisms(file: str, names: Sequence[bytes], known: Sequence[bytes]) -> Iterator[Problem]:
    for name in names:
        if name.lower() not in known:
            shown = name.decode("utf-8", "replace")
            allowed = f"allowed are {', '.join(one.decode() for one in known)}"
            yield _warning(f"control/{file}", f"{shown} is unknown", allowed)


def _of_auth(settings: Settings) -> Iterator[Problem]:
    yield from _of_mechanisms("authmechanisms", settings.authmechanisms, list(AUTH))
    wanted = {name.lower() for name in settings.authmechanisms}
    if any(listener.auth == "required" for listener in settings.listen) and not wanted & AUTH.keys():
        yield _warning(
            "control/authmechanisms",
            "names no mechanism, but a listener requires AUTH",
            "add plain, or remove the file",
        )

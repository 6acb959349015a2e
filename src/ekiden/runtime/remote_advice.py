"""What is wrong with control/remoteauth, for ``ekiden check``."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from ekiden.delivery.remote_logins import FILE, parse
from ekiden.routing.destination import RouteError, relay_destination
from ekiden.runtime.privilege import identities
from ekiden.settings.control import read
from ekiden.settings.problem import Problem, SettingsError
from ekiden.settings.schema import Settings


def remote_login_problems(home: Path) -> list[Problem]:
    """Warnings, if the settings can be read; what else is wrong with those is told by ``settings.control``."""
    try:
        settings = read(home / "control")
    except SettingsError:
        return []
    return list(_problems(home, settings)) if settings.remoteauth else []


def _problems(home: Path, settings: Settings) -> Iterator[Problem]:
    path = home / FILE
    try:
        status = path.stat()
        raw = path.read_bytes()
    except OSError as error:
        yield _warning(f"cannot be read: {error.strerror}", "let the user that sends mail read it")
        return
    if status.st_mode & (stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        yield _warning("can be read or changed by others", f"chmod 400 {path}")
    sender = identities(home).roles["remote"]
    if sender is not None and not sender.may_read(status):
        yield _warning("cannot be read by the user that sends mail", f"chown {sender.uid} {path}")
    lines, problems = parse(raw, settings.remoteport)
    yield from problems
    used = set(_relays(settings))
    for key in lines:
        if key not in used:
            yield _warning(
                f"{key.decode('utf-8', 'replace')} is no relay in control/smtproutes", "correct one of them"
            )


def _relays(settings: Settings) -> Iterator[bytes]:
    for relay in settings.smtproutes.values():
        try:
            yield relay_destination(relay, settings.remoteport)
        except RouteError:
            continue


def _warning(message: str, remedy: str) -> Problem:
    return Problem(file=FILE, message=message, remedy=remedy, fatal=False)

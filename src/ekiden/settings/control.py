"""qmail's ``control/`` directory: one fact per file (qmail-control(5)), read into ``Settings``.

Either every file is read and in order, and there is a complete ``Settings``, or there is a ``SettingsError`` with
every reason. Nothing in between is ever returned, so that whoever reloads keeps the old object by doing nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ekiden.settings.catalogue import CATALOGUE, control_file
from ekiden.settings.description import Kind
from ekiden.settings.file import ControlFile
from ekiden.settings.lines import load
from ekiden.settings.problem import Problem, SettingsError
from ekiden.settings.schema import Settings
from ekiden.settings.values import parse

NAME_THE_HOST = "write this host's fully qualified name into it, or run config-fast with that name"


def read(control: Path) -> Settings:
    """The settings in the directory ``control``; ``SettingsError`` if they cannot be used as they are."""
    settings, found = _read(control)
    if settings is None:
        raise SettingsError([problem for problem in found if problem.fatal])
    return settings


def problems(control: Path) -> list[Problem]:
    """Everything wrong or doubtful in the directory ``control``, what keeps it from being used first."""
    from ekiden.settings.advice import advice  # Whoever only reads the settings starts sooner without it.

    settings, found = _read(control)
    found += advice(control, settings)
    return sorted(found, key=lambda problem: (not problem.fatal, problem.file, problem.line))


def _read(control: Path) -> tuple[Settings | None, list[Problem]]:
    """The settings, None if a fatal problem was found, and every problem in the files."""
    if not os.access(control, os.X_OK) or not control.is_dir():
        return None, [
            Problem(file="control", message="is not a directory to be read", remedy="make it, or run config")
        ]
    values: dict[str, Any] = {}
    found: list[Problem] = []
    for name, setting in CATALOGUE.items():
        path = control / control_file(name)
        if setting.kind is Kind.FILE:
            # Absolute, because a role need not stand where the settings were read.
            values[name] = os.path.abspath(path) if os.path.exists(path) else ""
        elif file := _open(path, found):
            value = parse(name, setting, file)
            found += file.problems
            if value is not None:
                values[name] = value
    if values["morercpthosts_cdb"]:
        # The compiled file is what counts (qmail-newmrh(8)), and it may be large.
        values.pop("morercpthosts", None)
    if not values.get("me"):
        state = "is empty" if os.path.exists(control / "me") else "does not exist"
        found.append(Problem(file="control/me", message=state, remedy=NAME_THE_HOST))
    if any(problem.fatal for problem in found):
        return None, found
    return Settings(**values), found


def _open(path: Path, found: list[Problem]) -> ControlFile | None:
    """The control file at ``path``, None if there is none or it cannot be read, which is then noted."""
    try:
        raw = load(path)
    except OSError as error:
        remedy = "make it a file that every user may read, or remove it"
        found.append(Problem(file=f"control/{path.name}", message=f"cannot be read: {error.strerror}", remedy=remedy))
        return None
    return None if raw is None else ControlFile(path.name, raw)

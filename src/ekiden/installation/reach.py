"""Can the mail users run HOME/bin? A venv below a home of mode 700 works for root, and for nobody else."""

from __future__ import annotations

from pathlib import Path

from ekiden.installation.accounts import Owners
from ekiden.installation.layout import closed_to_others
from ekiden.settings.problem import Problem


def programs_problems(home: Path) -> list[Problem]:
    """A warning for each interpreter in HOME/bin that is gone or that qmail's users, if any, cannot reach."""
    owners = Owners(home)
    if not owners.are_qmails or owners.missing():
        return []
    return [
        Problem(file=f"bin/{name}", message=trouble, remedy=remedy, fatal=False)
        for interpreter, name in _interpreters(home / "bin").items()
        for trouble, remedy in _troubles(home, interpreter)
    ]


def _interpreters(place: Path) -> dict[Path, str]:
    """Each interpreter that a script there names, with the first program that names it."""
    found: dict[Path, str] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        try:
            with path.open("rb") as file:
                first = file.readline(4096).decode("utf-8", "surrogateescape")
        except OSError:
            continue
        if first.startswith("#!") and (words := first[2:].split()):
            found.setdefault(Path(words[0]), path.name)
    return found


def _troubles(home: Path, interpreter: Path) -> list[tuple[str, str]]:
    if not interpreter.exists():
        return [(f"its interpreter {interpreter} does not exist", f"ekiden install {home}")]
    # Both ways: a venv's python is a link, and what it imports is beside the link.
    closed = closed_to_others(home, interpreter.parent, interpreter.resolve().parent)
    return [
        (f"qmail's users cannot run it: they cannot enter {way}", "install ekiden where everybody can read it")
        for way in closed
    ]

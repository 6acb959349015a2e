"""The classic commands: one file per program, each with ``main(argv, home) -> exit code``."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Program = Callable[[Sequence[str], str], int]


OWN = frozenset({"config"})
"""Names that mean ekiden's own command after ``ekiden``; the classic one is run as HOME/bin/NAME."""


def find(name: str, classic: bool = False) -> Program | None:
    """The classic program of that name; None if there is none, or if ekiden's own command is meant."""
    if (name in OWN and not classic) or not name.replace("-", "").isalnum():
        return None
    module = f"{__name__}.{name.replace('-', '_')}"
    try:
        program: Program = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    return program


def stranger(name: str) -> str | None:
    """The program that PATH finds under that name, if somebody put another in the place of ours; else None."""
    import shutil

    path = shutil.which(name)
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return None if b"from ekiden.cli import" in file.read(1000) else path
    except OSError:
        return path

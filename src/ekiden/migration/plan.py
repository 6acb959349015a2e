"""The files that a migration wants in a home, and how they meet what is there.

A file that says something else already is kept, unless it is to be replaced; one that says a part of what is wanted
is completed. Files are replaced one by one and each in one step, in an order in which no moment is more open than
the end: rcpthosts, without which a host relays for everybody, comes first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ekiden.delivery.maildir import sync_directory
from ekiden.settings.first import write
from ekiden.settings.lines import entries, load

FIRST = ("control/rcpthosts", "control/tcp.smtp", "control/badmailfrom", "control/badrcptto", "control/aliases")
"""Written before all others, in this order; then what is in alias/, then the rest of control/."""


class Step(NamedTuple):
    """What is to be done about one file, relative to the home."""

    path: str
    action: str
    """``write``, ``complete``, ``replace``, ``keep`` (it says something else) or ``same``."""
    lines: list[str]

    @property
    def changes(self) -> bool:
        """Whether the file is written."""
        return self.action in ("write", "complete", "replace")


@dataclass
class Plan:
    """Lines by file. ``local`` is a name of this host whose mail is for its users."""

    local: str
    files: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: str, *lines: str) -> None:
        """Have these lines in a file, each once; a file may be empty."""
        wanted = self.files.setdefault(path, [])
        wanted.extend(line for line in lines if line not in wanted)

    def steps(self, home: Path, replace: bool) -> list[Step]:
        """What has to be done in this home; OSError if a file cannot be read."""
        order = sorted(self.files, key=lambda path: (_rank(path), path))
        return [Step(path, _action(home / path, self.files[path], replace), self.files[path]) for path in order]


def _rank(path: str) -> int:
    if path in FIRST:
        return FIRST.index(path)
    return len(FIRST) + (not path.startswith("alias/"))


def _action(path: Path, lines: list[str], replace: bool) -> str:
    raw = load(path)
    if raw is None:
        return "write"
    there = [entry for _, entry in entries(raw)]
    wanted = [line.encode("utf-8", "surrogateescape") for line in lines]
    if there == wanted:
        return "same"
    if set(there) <= set(wanted):
        return "complete"
    return "replace" if replace else "keep"


def carry_out(home: Path, steps: list[Step]) -> None:
    """Write the files; durable on return. OSError if that fails, what came before being done."""
    for step in steps:
        if step.changes:
            write(home / step.path, step.lines)
    for directory in {os.path.dirname(step.path) for step in steps if step.changes}:
        sync_directory(os.fsencode(home / directory))


def dot_qmail(name: str) -> str:
    """The .qmail file in alias/ for an extension (dot-qmail(5)); ValueError for what can have none."""
    if "/" in name or "\0" in name or not name:
        raise ValueError(f"{name!r} cannot be part of a file's name")
    return f"alias/.qmail-{name.lower().replace('.', ':')}"

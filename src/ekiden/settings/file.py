"""One control file as qmail reads it (qmail-control(5)), with the problems found in it.

A file of one fact is its first line; what follows is not looked at. In a file of many lines, blank lines and lines
that begin with ``#`` are skipped, and NUL parts entries as a newline does. Spaces and tabs at the end of a line do
not count, those at its beginning do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ekiden.settings.problem import Problem

_BLANK = b" \t\n"
_CONTROLS = {octet: f"\\x{octet:02x}" for octet in (*range(32), *range(127, 160))}


class ControlFile:
    """The file ``name`` under control/ with the octets ``raw``; ``problems`` grows while it is parsed."""

    def __init__(self, name: str, raw: bytes) -> None:
        self.name = name
        self.raw = raw
        self.problems: list[Problem] = []

    def refuse(self, line: int, message: str, remedy: str = "") -> None:
        """Note a problem that keeps the settings from being used."""
        self._note(line, message, remedy, True)

    def warn(self, line: int, message: str, remedy: str = "") -> None:
        """Note a problem that does not."""
        self._note(line, message, remedy, False)

    def _note(self, line: int, message: str, remedy: str, fatal: bool) -> None:
        # What the file holds is shown on a terminal, which is not to obey it.
        message = message.translate(_CONTROLS)
        file = f"control/{self.name}"
        self.problems.append(Problem(file=file, line=line, message=message, remedy=remedy, fatal=fatal))

    def line(self) -> bytes:
        """The one fact: the first line, empty if the file is."""
        return first_line(self.raw)

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """The entries of a file of many lines, each with its line number from 1."""
        yield from entries(self.raw)


def first_line(raw: bytes) -> bytes:
    """The first line of ``raw`` without the blanks at its end."""
    return raw.partition(b"\n")[0].rstrip(_BLANK)


def entries(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The entries in ``raw``, each with its line number from 1."""
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.startswith((b"#", b"\0")):
            continue
        for entry in line.rstrip(_BLANK).split(b"\0"):
            if entry:
                yield number, entry


def load(path: Path) -> bytes | None:
    """The whole content of the file at ``path``, or None if there is none; OSError if it cannot be read.

    A FIFO without a writer does not block: it is an empty file, as for qmail.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # By hand: open() would not close the descriptor of something that turns out to be a directory.
        return b"".join(iter(lambda: os.read(descriptor, 65536), b""))
    finally:
        os.close(descriptor)


def shown(value: bytes) -> str:
    """``value`` in quotes, for a message to people."""
    return '"' + value.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\0", "\\0") + '"'

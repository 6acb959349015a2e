"""One control file, with the problems found in it."""

from __future__ import annotations

from collections.abc import Iterator

from ekiden.settings.lines import entries, first_line
from ekiden.settings.problem import Problem

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


def shown(value: bytes) -> str:
    """``value`` in quotes, for a message to people."""
    return '"' + value.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\0", "\\0") + '"'

"""What is wrong with the settings, said so that the administrator can mend it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong in one file.

    ``file`` is relative to the home (``control/locals``), ``line`` counts from 1 and is 0 if the whole file is meant.
    ``remedy`` says what is allowed or what to do. A ``fatal`` problem keeps the settings from being used; another
    one only means that they may not do what was meant.
    """

    file: str
    line: int = 0
    message: str
    remedy: str = ""
    fatal: bool = True

    def __post_init__(self) -> None:
        # Users name files and write lines that an administrator is shown, on a terminal or as JSON.
        for name in ("file", "message", "remedy"):
            if not getattr(self, name).isprintable():
                msgspec.structs.force_setattr(self, name, _printable(getattr(self, name)))

    def __str__(self) -> str:
        return self._said("" if self.fatal else "warning: ")

    @property
    def without_kind(self) -> str:
        """The same for the log, which says itself that it is a warning."""
        return self._said("")

    def _said(self, kind: str) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}: {kind}{self.message}{remedy}"


def _printable(text: str) -> str:
    """What is not printable as escapes, octets that are no UTF-8 included."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class SettingsError(Exception):
    """The settings cannot be used; ``problems`` has every reason, and none that is not one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)

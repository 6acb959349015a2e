"""How one setting is described: what its file holds, within which bounds, and how people are told about it.

Nothing here reads a file.
"""

from __future__ import annotations

import enum

import msgspec

CONCURRENCY_LIMIT = 10_000
"""Deliveries. What a larger ``concurrencylocal`` or ``concurrencyremote`` silently counts as."""


class Kind(enum.Enum):
    """What a control file holds. Only the kinds of many lines have comments and blank lines (qmail-control(5))."""

    NUMBER = "a whole number"
    FLAG = "1 (yes) or 0 (no)"
    LINE = "one line"
    TEXT = "lines"
    CHOICE = "one word"
    ADDRESS = "an IP address"
    SET = "entries, one a line, in any order"
    LIST = "entries, one a line, in order"
    MAP = "key:value, one a line"
    LISTENERS = "service and address, one a line"
    FILE = "a file used as it is"


MANY = frozenset({Kind.SET, Kind.LIST, Kind.MAP, Kind.LISTENERS})
"""Kinds of many lines: lines that begin with ``#`` and blank lines are skipped."""


class Setting(msgspec.Struct, frozen=True):
    """One setting's description.

    ``help`` is one line for people. ``sentence`` is what qmail-showctl says, ``{}`` standing for the value or, in
    files of many lines, for each entry; ``absent``, if not empty, is said instead when there is no file. ``low`` and
    ``high`` bound a number in ``unit``; a ``clipped`` number above ``high`` silently counts as ``high``. ``file`` is
    the control file's name where that is not the setting's.
    """

    kind: Kind
    help: str
    sentence: str
    absent: str = ""
    unit: str = ""
    low: int = 0
    high: int = 0
    clipped: bool = False
    choices: tuple[str, ...] = ()
    file: str = ""

    @property
    def allowed(self) -> str:
        """What a value may be, in words, for problems and for the manual."""
        if self.kind is Kind.NUMBER:
            return f"a whole number from {self.low} to {self.high}" + (f" ({self.unit})" if self.unit else "")
        if self.kind is Kind.CHOICE:
            return " or ".join(self.choices)
        return str(self.kind.value)


def number(
    help: str, sentence: str, unit: str = "", low: int = 0, high: int = 2**31 - 1, *, clipped: bool = False
) -> Setting:
    """A setting that is a whole number of ``unit`` from ``low`` to ``high``, both allowed."""
    return Setting(Kind.NUMBER, help, sentence, unit=unit, low=low, high=high, clipped=clipped)


def flag(help: str, sentence: str) -> Setting:
    """A setting that is on (1) or off (0)."""
    return Setting(Kind.FLAG, help, sentence)


def line(help: str, sentence: str) -> Setting:
    """A setting that is the first line of its file."""
    return Setting(Kind.LINE, help, sentence)


def choice(help: str, sentence: str, *choices: str) -> Setting:
    """A setting that is one of a few words."""
    return Setting(Kind.CHOICE, help, sentence, choices=choices)


def many(kind: Kind, help: str, sentence: str, absent: str) -> Setting:
    """A setting of many lines; ``absent`` is what qmail-showctl says without the file."""
    return Setting(kind, help, sentence, absent)


def present(help: str, sentence: str, absent: str, file: str) -> Setting:
    """A setting that is the path of ``file`` under control/, empty when there is none."""
    return Setting(Kind.FILE, help, sentence, absent, file=file)

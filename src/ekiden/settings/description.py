"""How one setting is described: what its file holds, within which bounds, and how people are told about it.

The schema attaches one ``Setting`` to every field of ``Settings``; the reader of ``control/``, qmail-showctl, the
checks and docs/settings.md are views on these descriptions. Nothing here reads a file.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What a control file holds. Only the kinds of many lines have comments and blank lines (qmail-control(5))."""

    NUMBER = "a whole number"
    FLAG = "0 or 1"
    LINE = "one line"
    CHOICE = "one word"
    ADDRESS = "an IP address"
    SET = "entries, one a line, in any order"
    LIST = "entries, one a line, in order"
    MAP = "key:value, one a line"
    LISTENERS = "listeners, one a line"
    FILE = "a file used as it is"

    @property
    def has_comments(self) -> bool:
        """Whether lines that begin with ``#`` and blank lines are skipped."""
        return self in (Kind.SET, Kind.LIST, Kind.MAP, Kind.LISTENERS)


class Section(enum.Enum):
    """The chapters of docs/settings.md."""

    NAMES = "Names of this host"
    RECEIVING = "Receiving"
    ROUTING = "Routing and local addresses"
    SENDING = "Sending"
    QUEUE = "The queue"
    BOUNCES = "Bounces"
    TLS = "TLS"
    PROCESSES = "Processes and logs"


@dataclass(frozen=True)
class Setting:
    """One setting's description.

    ``help`` is one line for people. ``sentence`` is what qmail-showctl says, ``{}`` standing for the value or, in
    files of many lines, for each entry. ``absent`` is said instead when a file of many lines does not exist.
    ``low`` and ``high`` bound a number in ``unit``; a ``clipped`` number above ``high`` silently counts as ``high``.
    ``from_me``: without its file the setting is what ``me`` says. ``file`` is the control file's name where that is
    not the setting's.
    """

    section: Section
    kind: Kind
    help: str
    sentence: str
    absent: str = ""
    unit: str = ""
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    from_me: bool = False
    clipped: bool = False
    file: str = ""

    @property
    def allowed(self) -> str:
        """What a value may be, in words, for problems and for the manual."""
        if self.kind is Kind.NUMBER:
            unit = f" {self.unit}" if self.unit else ""
            return f"a whole number from {self.low} to {self.high}{unit}"
        if self.kind is Kind.CHOICE:
            return " or ".join(self.choices)
        return str(self.kind.value)


def number(
    section: Section,
    help: str,
    sentence: str,
    unit: str = "",
    low: int = 0,
    high: int = 2**31 - 1,
    *,
    clipped: bool = False,
) -> Setting:
    """A setting that is a whole number of ``unit`` within ``low`` and ``high``, both allowed."""
    return Setting(section, Kind.NUMBER, help, sentence, unit=unit, low=low, high=high, clipped=clipped)


def flag(section: Section, help: str, sentence: str) -> Setting:
    """A setting that is on (1) or off (0)."""
    return Setting(section, Kind.FLAG, help, sentence, low=0, high=1)


def line(section: Section, help: str, sentence: str, *, from_me: bool = False) -> Setting:
    """A setting that is the first line of its file."""
    return Setting(section, Kind.LINE, help, sentence, from_me=from_me)


def choice(section: Section, help: str, sentence: str, *choices: str) -> Setting:
    """A setting that is one of a few words."""
    return Setting(section, Kind.CHOICE, help, sentence, choices=choices)


def many(
    section: Section, kind: Kind, help: str, sentence: str, absent: str, *, from_me: bool = False, file: str = ""
) -> Setting:
    """A setting of many lines; ``absent`` is what showctl says without the file."""
    return Setting(section, kind, help, sentence, absent, from_me=from_me, file=file)


def present(section: Section, help: str, sentence: str, absent: str, file: str) -> Setting:
    """A setting that is the path of a file, empty when there is none."""
    return Setting(section, Kind.FILE, help, sentence, absent, file=file)

"""What a migration has to tell: what it carried over, what means something else now, what stays behind and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple


class Place(NamedTuple):
    """A line of a file, from 1; line 0 is the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Said(NamedTuple):
    """A value and where it was said."""

    value: str
    place: Place


class Kind(enum.Enum):
    """How something fared."""

    CARRIED = "carried"
    CHANGED = "changed"
    """Carried over, but it does not mean quite the same here."""
    LEFT = "left"


class Finding(NamedTuple):
    """One line of the report. ``text`` says what became of it or why it was left; ``remedy`` what to do."""

    kind: Kind
    place: Place
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.kind.value:<8} {self.place}: {self.text}{remedy}"


@dataclass
class Report:
    """Findings in the order in which they were made."""

    findings: list[Finding] = field(default_factory=list)

    def carried(self, place: Place, text: str) -> None:
        """It means the same as before."""
        self.findings.append(Finding(Kind.CARRIED, place, text))

    def changed(self, place: Place, text: str, remedy: str = "") -> None:
        """It was carried over as far as that goes."""
        self.findings.append(Finding(Kind.CHANGED, place, text, remedy))

    def left(self, place: Place, text: str, remedy: str = "") -> None:
        """It was not carried over."""
        self.findings.append(Finding(Kind.LEFT, place, text, remedy))

    def count(self, kind: Kind) -> int:
        """How many findings of a kind there are."""
        return sum(finding.kind is kind for finding in self.findings)

"""sendmail's text files as they lie in /etc/mail: classes (a word a line) and tables (key, blanks, value)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ekiden.migration.finding import Place, Report, Said

STANDARD = Path("/etc/mail")


class Row(NamedTuple):
    """A line of a table, as makemap(8) reads it. The key is in lower case."""

    key: str
    value: str
    place: Place


class Source:
    """The directory that sendmail's configuration is read from."""

    def __init__(self, directory: Path, report: Report) -> None:
        self.directory = directory
        self.report = report

    def find(self, said: str) -> Path | None:
        """The text file that is called ``said`` (``hash -o /etc/mail/access.db``), None if it is not there.

        A file of that name in the directory comes first: what is read may be a copy of another host's /etc/mail.
        """
        words = [word for word in said.split() if word[0] not in "-%"]
        if not words:
            return None
        path = Path(words[-1].rpartition(":")[2])
        path = path.with_suffix("") if path.suffix == ".db" else path
        here = self.directory / path.name
        if here.is_file():
            return here
        if path.is_absolute() and path.is_file() and path.parent != STANDARD:
            return path
        compiled = here.with_name(here.name + ".db")
        if compiled.exists():
            self.report.left(
                Place(str(compiled)), "only the compiled table is here", f"makemap -u hash {here} > {here}, and again"
            )
        return None

    def lines(self, path: Path) -> Iterator[tuple[Place, str]]:
        """The lines that are neither empty nor comments, blanks at the end taken away; OSError."""
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip() and not line.startswith("#"):
                yield Place(str(path), number), line.rstrip()

    def words(self, path: Path) -> Iterator[Said]:
        """A class file's members, in lower case: the first word of each line (op.me, section 5.3)."""
        for place, line in self.lines(path):
            word = line.split()[0]
            if not word.startswith("#"):
                yield Said(word.lower(), place)

    def rows(self, path: Path) -> Iterator[Row]:
        """A table's lines; one without a value is reported and left."""
        for place, line in self.lines(path):
            key, _, value = line.strip().replace("\t", " ").partition(" ")
            if not value.strip():
                self.report.left(place, f"{key} has no value", "write key, blanks, value")
                continue
            yield Row(key.lower(), value.strip(), place)

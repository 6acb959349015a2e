"""docs/programs.md names every program, as it is called, and where it is tested."""

from __future__ import annotations

import re
from pathlib import Path

from ekiden.installation.scripts import texts

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"\| \[(\S+)\]\((\S+)\) \| `(\S+)[^`|]*` \| [^|]+ \| [^|]+ \| ([^|]+) \|")


def table() -> dict[str, re.Match[str]]:
    page = (ROOT / "docs" / "programs.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| [")]
    found = [ROW.fullmatch(line) for line in lines]
    assert None not in found, lines[found.index(None)]
    return {row[1]: row for row in found if row}


def test_every_program_has_its_row() -> None:
    assert sorted(table()) == sorted(texts(Path("/home")))


def test_rows_are_true() -> None:
    for name, row in table().items():
        assert row[3] == name
        assert (ROOT / "docs" / row[2]).is_file()
        tests = [path.strip("`") for path in row[4].split()]
        assert tests
        told = "".join((ROOT / "tests" / path).read_text() for path in tests)
        assert re.search(rf"\b{re.escape(name)}|\b{re.escape(name.replace('-', '_'))}\b", told), name

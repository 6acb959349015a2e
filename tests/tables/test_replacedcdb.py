"""A constant database that is replaced while it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.tables.cdb import replace_cdb
from ekiden.tables.replacedcdb import ReplacedCdb
from ekiden.tables.table import TableError


def test_answers_come_from_the_file_of_that_name(tmp_path: Path) -> None:
    path, temporary = tmp_path / "test.cdb", tmp_path / "test.tmp"
    table = ReplacedCdb(path)
    with pytest.raises(TableError, match="unable to read"):
        table.get(b"key")
    replace_cdb(path, temporary, [(b"key", b"old")])
    assert table.get(b"key") == b"old"
    replace_cdb(path, temporary, [(b"key", b"new")])
    assert table.get(b"key") == b"new"
    path.unlink()
    with pytest.raises(TableError, match="unable to read"):
        table.get(b"key")
    replace_cdb(path, temporary, [])
    assert table.get(b"key") is None

"""maildirmake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.programs import maildirmake


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Programs set their own."""
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def test_a_new_maildir(tmp_path: Path) -> None:
    path = tmp_path / "Maildir"
    assert maildirmake.main([str(path)], str(tmp_path)) == 0
    assert {entry.name for entry in path.iterdir()} == {"tmp", "new", "cur"}
    assert {entry.stat().st_mode & 0o777 for entry in (path, *path.iterdir())} == {0o700}


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maildirmake.main([], str(tmp_path)) == 100
    assert maildirmake.main([str(tmp_path)], str(tmp_path)) == 111
    assert maildirmake.main([str(tmp_path / "a" / "b")], str(tmp_path)) == 111
    assert capsys.readouterr().err.splitlines() == [
        "maildirmake: usage: maildirmake name",
        f"maildirmake: fatal: unable to mkdir {tmp_path}: File exists",
        f"maildirmake: fatal: unable to mkdir {tmp_path}/a/b: No such file or directory",
    ]

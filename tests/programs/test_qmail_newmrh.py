"""qmail-newmrh: control/morercpthosts compiled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.programs.qmail_newmrh import main
from ekiden.tables.cdb import Cdb

HOSTS = b"# remark\nOne.example \t\n\n \t \n.wide.example\n leading.example\nlast.example"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    old = os.umask(0o022)
    (tmp_path / "control").mkdir()
    yield tmp_path / "control"
    os.umask(old)


def test_hosts_are_compiled_in_lower_case(control: Path) -> None:
    (control / "morercpthosts").write_bytes(HOSTS)
    assert main([], str(control.parent)) == 0
    with Cdb(control / "morercpthosts.cdb") as table:
        assert list(table.items()) == [
            (b"one.example", b""),
            (b".wide.example", b""),
            (b" leading.example", b""),
            (b"last.example", b""),
        ]
    assert sorted(path.name for path in control.iterdir()) == ["morercpthosts", "morercpthosts.cdb"]
    assert (control / "morercpthosts.cdb").stat().st_mode & 0o777 == 0o644


def test_without_hosts_the_compiled_file_is_left_alone(control: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (control / "morercpthosts.cdb").write_bytes(b"as it was")
    assert main([], str(control.parent)) == 111
    assert capsys.readouterr().err.startswith("qmail-newmrh: fatal: unable to read control/morercpthosts: ")
    assert (control / "morercpthosts.cdb").read_bytes() == b"as it was"


def test_what_cannot_be_written_or_moved_is_named(control: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (control / "morercpthosts").write_bytes(HOSTS)
    (control / "morercpthosts.tmp").mkdir()
    assert main([], str(control.parent)) == 111
    assert capsys.readouterr().err.startswith("qmail-newmrh: fatal: unable to write to control/morercpthosts.tmp: ")
    (control / "morercpthosts.tmp").rmdir()
    (control / "morercpthosts.cdb").mkdir()
    assert main([], str(control.parent)) == 111
    assert "unable to move control/morercpthosts.tmp to control/morercpthosts.cdb" in capsys.readouterr().err

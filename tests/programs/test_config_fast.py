"""config-fast: the first configuration from a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.programs import config_fast

CONTROL = {
    "me": "indy2.nix.co.jj\n",
    "defaultdomain": "nix.co.jj\n",
    "plusdomain": "co.jj\n",
    "locals": "indy2.nix.co.jj\n",
    "rcpthosts": "indy2.nix.co.jj\n",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path


def written(home: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (home / "control").iterdir()}


def test_the_guides_example(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_fast.main(["indy2.nix.co.jj"], str(home)) == 0
    assert capsys.readouterr().out == (
        "This host's fully qualified name is indy2.nix.co.jj.\n"
        "Putting indy2.nix.co.jj into control/me...\n"
        "Putting nix.co.jj into control/defaultdomain...\n"
        "Putting co.jj into control/plusdomain...\n"
        "Putting indy2.nix.co.jj into control/locals...\n"
        "Putting indy2.nix.co.jj into control/rcpthosts...\n"
        "SMTP messages are refused from now on, except to indy2.nix.co.jj.\n"
        "Remember: what is added to locals or virtualdomains has to be added to rcpthosts too.\n"
    )
    assert written(home) == CONTROL
    assert {path.stat().st_mode & 0o777 for path in (home / "control").iterdir()} == {0o644}


def test_a_second_time_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config_fast.main(["indy2.nix.co.jj"], str(home))
    assert config_fast.main(["other.example"], str(home)) == 100
    assert "control/me exists" in capsys.readouterr().err
    assert written(home) == CONTROL


@pytest.mark.parametrize("argv", [[], ["a.example", "b.example"], ["not a name"], [""]])
def test_without_one_name_nothing_is_written(home: Path, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert config_fast.main(argv, str(home)) == 100
    assert capsys.readouterr().err
    assert os.listdir(home / "control") == []


def test_a_home_without_control_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config_fast.main(["a.example"], str(tmp_path)) == 100
    assert f"There is no directory {tmp_path}/control." in capsys.readouterr().err


def test_a_failing_write_is_temporary_and_leaves_no_me(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "control" / "plusdomain").mkdir()
    assert config_fast.main(["a.example.org"], str(home)) == 111
    assert capsys.readouterr().err.startswith("config-fast: fatal: unable to write ")
    assert not (home / "control" / "me").exists()

"""qmail-showctl: the report's head; what follows is tested in tests/settings/test_telling.py."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ekiden.programs import qmail_showctl


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = tmp_path / "control"
    control.mkdir()
    (control / "me").write_text("indy2.nix.co.jj\n")
    (control / "zork").write_text("")
    assert qmail_showctl.main([], str(tmp_path)) == 0
    out = capsys.readouterr().out
    head, _, rest = out.partition("\n\n")
    assert head.splitlines()[:5] == [
        f"qmail home directory: {tmp_path}.",
        "user-ext delimiter: -.",
        "paternalism (in decimal): 2.",
        "silent concurrency limit: 10000.",
        "subdirectory split: 1.",
    ]
    assert re.search(r"^user ids: (\d+, ){7}\d+\.$", head, re.M)
    assert re.search(r"^group ids: \d+, \d+\.$", head, re.M)
    assert "\n\nme: This host is called indy2.nix.co.jj.\n\n" in rest
    assert "\n\nconcurrencyremote: (Default.) Up to 20 remote deliveries run at once.\n\n" in rest
    assert out.endswith("\n\nzork: I have no idea what this file does.\n")


def test_ids_are_the_systems_or_the_homes_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmail_showctl, "USERS", ("root", "surely-not-a-user"))
    monkeypatch.setattr(qmail_showctl, "GROUPS", ("root", "surely-not-a-group"))
    lines = list(qmail_showctl.describe_home(tmp_path))
    assert lines[-3:] == [
        f"user ids: 0, {os.getuid()}.",
        f"group ids: 0, {tmp_path.stat().st_gid}.",
        "not on this system, and shown as the home's owner: surely-not-a-user, surely-not-a-group.",
    ]


def test_without_a_control_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert qmail_showctl.main([], str(tmp_path)) == 111
    assert capsys.readouterr().out.endswith(f"Oops! There is no directory {tmp_path}/control.\n")


def test_arguments_are_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert qmail_showctl.main(["-v"], str(tmp_path)) == 100
    assert capsys.readouterr().err == "qmail-showctl: usage: qmail-showctl\n"

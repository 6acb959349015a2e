"""``ekiden check`` on a machine whose mail users cannot run the programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.installation import reach
from ekiden.installation.accounts import Owners


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root's home on a machine with qmail's users; its python is in ``venv``."""
    if os.geteuid() != 0:
        pytest.skip("needs a home of root's")
    monkeypatch.setattr(Owners, "missing", lambda _: [])
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "python").symlink_to("/bin/sh")
    (place / "home" / "bin").mkdir(parents=True)
    for name in ("forward", "qmail-send"):
        (place / "home" / "bin" / name).write_text(f"#!{place}/venv/bin/python\n")
    (place / "home" / "bin" / "elq").write_text("#!/bin/sh -e\n")
    (place / "home" / "bin" / "native").write_bytes(b"\x7fELF")
    return place / "home"


def test_an_interpreter_that_all_can_reach(home: Path) -> None:
    assert reach.programs_problems(home) == []


def test_a_venv_that_only_root_can_enter(home: Path) -> None:
    closed = home.parent / "venv"
    closed.chmod(0o700)
    (problem,) = reach.programs_problems(home)
    assert str(problem) == (
        f"bin/forward: warning: qmail's users cannot run it: they cannot enter {closed}; "
        "install ekiden where everybody can read it"
    )


def test_an_interpreter_that_is_gone(home: Path) -> None:
    (home.parent / "venv" / "bin" / "python").unlink()
    (problem,) = reach.programs_problems(home)
    assert problem.message == f"its interpreter {home.parent}/venv/bin/python does not exist"


def test_a_home_of_ones_own_needs_nobody_else(home: Path) -> None:
    (home.parent / "venv").chmod(0o700)
    os.chown(home, 65534, -1)
    assert reach.programs_problems(home) == []

"""What ``ekiden check`` says of the POP3 server's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.runtime.pop3.advice import pop3_problems


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("a.example\n")
    return tmp_path


def test_nothing_to_say(home: Path) -> None:
    assert pop3_problems(home) == []
    users = home / "control" / "pop3users"
    users.write_text("jiro:{PLAIN}word:1000:0:/home/jiro\n")
    users.chmod(0o600)
    (home / "control" / "pop3passwords").write_text("file\ncheckpassword /bin/checkpassword -x\n")
    (home / "control" / "pop3mechanisms").write_text("APOP\nplain\n")
    assert pop3_problems(home) == []


def test_everything_is_named_with_its_line(home: Path) -> None:
    users = home / "control" / "pop3users"
    users.write_text("jiro:{PLAIN}word\n# people\nhana\nroot:x:0:0:/root\njiro:again\n")
    users.chmod(0o644)
    (home / "control" / "pop3passwords").write_text("file\nldap\n")
    (home / "control" / "pop3mechanisms").write_text("cram-md5\n")
    told = [(problem.file, problem.line, problem.fatal) for problem in pop3_problems(home)]
    assert told == [
        ("control/pop3users", 0, False),
        ("control/pop3users", 3, False),
        ("control/pop3users", 4, False),
        ("control/pop3users", 5, False),
        ("control/pop3passwords", 0, False),
        ("control/pop3mechanisms", 0, False),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a home away")
def test_a_file_that_the_owner_of_the_home_cannot_read(home: Path) -> None:
    users = home / "control/pop3users"
    users.write_text("jiro:{PLAIN}x:65534:65534:/tmp\n")
    users.chmod(0o600)
    os.chown(home, 65534, 65534)
    (problem,) = [one for one in pop3_problems(home) if "cannot be read" in one.message]
    assert problem.file == "control/pop3users"
    assert problem.remedy == f"chown 65534 {users}"
    os.chown(users, 65534, 65534)
    assert not [one for one in pop3_problems(home) if "cannot be read" in one.message]

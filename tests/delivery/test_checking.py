"""What ``ekiden check`` says about users, homes and .qmail files, before mail comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.delivery.checking import address_problems, users_problems
from ekiden.programs import qmail_newu
from ekiden.settings.first import make_home

UID = 4242 if os.geteuid() == 0 else os.getuid()


class House:
    """A home with the user joe in users/assign, compiled."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.joe = home.parent / "joe"
        make_home(home)
        self.joe.mkdir()
        self.own(home / "alias")
        self.own(self.joe)
        self.assign(f"=joe:joe:{UID}:{UID}:{self.joe}:::", f"+joe-:joe:{UID}:{UID}:{self.joe}:-::", ".")
        umask = os.umask(0o022)
        assert qmail_newu.main([], home) == 0
        os.umask(umask)

    def own(self, path: Path) -> Path:
        os.chown(path, UID, -1)
        return path

    def assign(self, *lines: str) -> None:
        (self.home / "users" / "assign").write_text("".join(f"{line}\n" for line in lines))

    def qmail(self, text: str, name: str = ".qmail", mode: int = 0o644) -> None:
        (self.joe / name).write_text(text)
        self.own(self.joe / name).chmod(mode)

    def said(self) -> list[str]:
        return [str(problem).replace(str(self.joe), "JOE") for problem in users_problems(self.home)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


def test_a_sound_home(house: House) -> None:
    house.qmail("# mine\n\n./Mailbox\n|cat\n&a@b.c\n")
    house.qmail("+list\na@b.c\n", ".qmail-list")
    assert house.said() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n./Mailbox\n", ":1: warning: The first line of the .qmail file is blank."),
        ("a@b\n+list\n./Mailbox\n", ":3: warning: The .qmail file may only forward, but it delivers to a file."),
        (
            "a@b\n./Maildir/\n",
            ":2: warning: there is no such Maildir, so that mail is deferred; maildirmake JOE/./Maildir/",
        ),
        ("#\nJoe <a@b>\n", ":2: warning: this is no bare address"),
        ("&\n", ":1: warning: this forwards to nobody"),
        ("#\n|\n", ":2: warning: this runs nothing"),
        ("/\n/tmp\n", ":1: warning: there is no such Maildir"),
    ],
)
def test_lines_that_cannot_be_meant(house: House, text: str, said: str) -> None:
    house.qmail(text)
    assert house.said()[0].startswith("JOE/.qmail" + said)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o646, "is writable by others, which defers all mail; chmod o-w JOE/.qmail-x"),
        (0o664, "is writable by its group, which then controls the mail; chmod g-w JOE/.qmail-x"),
        (0o200, f"cannot be read by joe (uid {UID}), which defers all mail; chmod 644 JOE/.qmail-x"),
    ],
)
def test_modes_of_files(house: House, mode: int, said: str) -> None:
    if mode == 0o200 and os.geteuid():
        pytest.skip("only root can look at it")
    house.qmail("a@b\n", ".qmail-x", mode)
    assert house.said() == [f"JOE/.qmail-x: warning: {said}"]


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o757, "is writable by others, which defers all mail; chmod o-w JOE"),
        (0o775, "is writable by its group, which then controls the home; chmod g-w JOE"),
        (0o1755, "is sticky, which defers all mail; when .qmail is edited: chmod -t JOE"),
    ],
)
def test_modes_of_homes(house: House, mode: int, said: str) -> None:
    house.joe.chmod(mode)
    assert house.said() == [f"JOE: warning: {said}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_owners(house: House) -> None:
    house.qmail("a@b\n")
    os.chown(house.joe / ".qmail", 4243, -1)
    os.chown(house.joe, 4243, -1)
    wrong = f"belongs to uid 4243, not to joe (uid {UID}); chown {UID}"
    assert house.said() == [f"JOE: warning: {wrong} JOE", f"JOE/.qmail: warning: {wrong} JOE/.qmail"]


def test_what_is_no_file(house: House) -> None:
    os.mkfifo(house.joe / ".qmail-fifo")
    assert house.said() == ["JOE/.qmail-fifo: warning: is no file, and is passed over; remove it"]


def test_a_home_that_is_not_there(house: House) -> None:
    house.joe.rmdir()
    assert house.said() == [
        f"JOE: warning: the home of joe (uid {UID}): No such file or directory; make it, or correct users/assign"
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("=x:y", "this is no assignment"),
        ("", "this is no assignment"),
        ("=x:y:a:1:/h:::", "uid or gid is not a number"),
        ("=x:y:0:1:/h:::", "uid 0: mail is never delivered as root"),
        ("=x:y:1:1:h:::", "the home is not an absolute path"),
        ("-x:y:1:1:/h:::", "the line begins with neither = nor +"),
    ],
)
def test_assignments(house: House, line: str, said: str) -> None:
    house.assign(f"=joe:joe:{UID}:{UID}:{house.joe}:::", line, ".")
    os.utime(house.home / "users" / "assign", (1, 1))
    assert house.said() == [f"users/assign:2: {said}; the form is =local:user:uid:gid:homedir:dash:ext:"]


def test_an_assignment_file_that_was_cut_off(house: House) -> None:
    house.assign(f"=joe:joe:{UID}:{UID}:{house.joe}:::")
    os.utime(house.home / "users" / "assign", (1, 1))
    assert house.said()[0].startswith("users/assign: does not end with a line that holds a dot")


def test_compiled_forms(house: House) -> None:
    cdb = house.home / "users" / "cdb"
    os.utime(cdb, (1, 1))
    assert house.said() == ["users/cdb: warning: is older than users/assign; run qmail-newu"]
    cdb.unlink()
    assert house.said() == ["users/assign: warning: is not compiled, so that it has no effect; run qmail-newu"]


def test_no_alias_user(house: House) -> None:
    (house.home / "alias").rmdir()
    (said,) = house.said()
    assert "alias: warning: " in said and "No such file or directory" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_alias_directory_of_root(house: House) -> None:
    os.chown(house.home / "alias", 0, 0)
    assert "there is no user alias" in house.said()[0]


def test_one_address(house: House) -> None:
    house.qmail("\n", ".qmail-x")
    user, found = address_problems(house.home, b"joe-x")
    assert (user.name, user.dash, user.ext) == (b"joe", b"-", b"x")
    assert len(found) == 1 and found[0].line == 1

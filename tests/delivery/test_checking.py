"""What ``ekiden check`` says about users, homes and .qmail files, before mail comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.delivery.checking import address_problems, users_problems
from ekiden.programs import qmail_newu
from ekiden.settings.first import make_home
from ekiden.settings.problem import Problem

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
        assert qmail_newu.main([], str(home)) == 0
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
        return self.shown(users_problems(self.home))

    def shown(self, problems: list[Problem]) -> list[str]:
        return [str(problem).replace(str(self.joe), "JOE") for problem in problems]

    def maildir(self, name: str = "Maildir") -> Path:
        for part in ("new", "cur", "tmp"):
            (self.joe / name / part).mkdir(parents=True)
            self.own(self.joe / name / part)
        return self.own(self.joe / name)


@pytest.fixture
def house(place: Path) -> House:
    return House(place / "home")


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
        ("a@b\r\n", ":1: warning: the line ends with a carriage return"),
        ("#\n./Maildir/\r\n", ":2: warning: the line ends with a carriage return"),
        ("|true\r\n", ":1: warning: the line ends with a carriage return"),
        ("\ufeff./Maildir/\n", ":1: warning: the file begins with a byte order mark"),
        ("Maildir/\n", ":1: warning: this is taken for an address"),
        ('"|/bin/true"\n', ":1: warning: this is taken for an address"),
        (":include:/etc/list\n", ":1: warning: this is taken for an address"),
        ("\\joe\n", ":1: warning: this is taken for an address"),
        ("~/Mailbox\n", ":1: warning: this is taken for an address"),
        ("|/no/such/program -x\n", ":1: warning: /no/such/program cannot be run, so that mail is deferred"),
        ("| ./not-there\n", ":1: warning: JOE/./not-there cannot be run"),
        ("|/etc/passwd\n", f":1: warning: /etc/passwd cannot be run by joe (uid {UID})"),
        ("|/usr\n", f":1: warning: /usr cannot be run by joe (uid {UID})"),
        ("./sub/Mailbox\n", ":1: warning: the directory of this file is not there"),
        ("./\n", ":1: warning: there is no such Maildir"),
        ("./.\n", ":1: warning: this is a directory"),
    ],
)
def test_lines_that_cannot_be_meant_at_all(house: House, text: str, said: str) -> None:
    house.qmail(text)
    assert house.said()[0].startswith("JOE/.qmail" + said)


@pytest.mark.parametrize(
    "text", ["|/bin/true x", "|cat >>x/y", "|a=b; /no/such", "./Mailbox", "/dev/null", "a+b@c", "&x=y/z@c", "|'/no'"]
)
def test_lines_that_may_be_meant(house: House, text: str) -> None:
    house.qmail(text + "\n")
    assert house.said() == []


@pytest.mark.parametrize(("part", "said"), [("tmp", "so that mail is deferred"), ("cur", "which mail readers need")])
def test_half_a_maildir(house: House, part: str, said: str) -> None:
    (house.maildir() / part).rmdir()
    house.qmail("./Maildir/\n")
    assert house.said()[0].startswith(f"JOE/.qmail:1: warning: the Maildir has no {part}, {said}; mkdir ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_mailboxes_of_others(house: House) -> None:
    os.chown(house.maildir() / "new", 4243, -1)
    (house.joe / "Mailbox").touch(0o644)
    (house.joe / "closed").mkdir(0o700)
    (house.joe / "closed" / "mbox").touch()
    os.chown(house.joe / "closed" / "mbox", UID, -1)
    (house.joe / "theirs").mkdir()
    house.qmail("./Maildir/\n./Mailbox\n./closed/mbox\n./theirs/mbox\n")
    who = f"joe (uid {UID})"
    assert [said.partition("; ")[0] for said in house.said()] == [
        f"JOE/.qmail:1: warning: {who} may not write to new of this Maildir",
        f"JOE/.qmail:2: warning: {who} may not write to this file",
        f"JOE/.qmail:3: warning: {who} cannot reach this, because JOE/./closed is closed",
        f"JOE/.qmail:4: warning: {who} may not make this file",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("closed", ["home", "above"])
def test_a_home_that_cannot_be_reached(house: House, closed: str) -> None:
    directory = house.joe if closed == "home" else house.joe.parent
    directory.chmod(0o600 if closed == "home" else 0o700)
    try:
        (said,) = [said for said in house.said() if said.startswith("JOE: ")]
    finally:
        directory.chmod(0o755)
    assert f"joe (uid {UID}) cannot reach his home, which defers all mail, because " in said
    assert said.endswith(f"; chmod {'u+x JOE' if closed == 'home' else f'o+x {directory}'}")


@pytest.mark.parametrize("name", [".qmail-List", ".qmail-a.b"])
def test_names_that_are_never_looked_up(house: House, name: str) -> None:
    house.qmail("a@b\n", name)
    looked_up = name.lower().replace("a.b", "a:b")
    assert house.said() == [
        f"JOE/{name}: warning: is never looked at: extensions are looked up in lower case, with colons for dots; "
        f"mv JOE/{name} {looked_up}"
    ]


def test_the_default_delivery(house: House) -> None:
    def said(default: bytes) -> list[str]:
        return [each.partition("; ")[0] for each in house.shown(users_problems(house.home, default))]

    missing = "there is no such Maildir, so that mail is deferred"
    assert said(b"./Maildir/\n") == [f"JOE: warning: without .qmail the default delivery is made here, and {missing}"]
    (house.joe / ".forward").write_text("a@b\n")
    assert said(b"./Mailbox\n") == ["JOE/.forward: warning: has no effect"]
    assert said(b"|dot-forward .forward\n./Mailbox\n") == []
    house.qmail("./Mailbox\n")
    assert said(b"./Maildir/\n") == []


def test_an_assignment_given_twice(house: House) -> None:
    line = f"=joe:joe:{UID}:{UID}:{house.joe}:::"
    house.assign(line, line.replace("=joe", "=Joe"), ".")
    os.utime(house.home / "users" / "assign", (1, 1))
    assert house.said() == ["users/assign:2: warning: this is assigned on line 1, which counts; remove one of them"]


def test_a_damaged_database(house: House) -> None:
    (house.home / "users" / "cdb").write_bytes(b"nothing that is a database")
    assert house.said()[0].startswith("users/cdb: warning: is damaged, which defers all local mail: ")


def test_an_address_that_nobody_has(house: House) -> None:
    _user, found = address_problems(house.home, b"joe-x-y")
    assert house.shown(found) == [
        "JOE: warning: there is neither .qmail-x-y nor a .qmail-default, so that mail bounces; make one of them"
    ]
    house.qmail("a@b\n", ".qmail-x-default")
    assert address_problems(house.home, b"joe-x-y")[1] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_account_that_is_no_mail_user(house: House) -> None:
    """The system's own: root, and daemon, whose home belongs to root or is not there."""
    said = house.shown(address_problems(house.home, b"root")[1])
    assert said[0].startswith("/root: warning: the account root gets no mail, and alias does, because its uid is 0")
    said = house.shown(address_problems(house.home, b"daemon")[1])
    assert "the account daemon gets no mail, and alias does, because its home " in said[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#\n./Nowhere/\n", ":2: warning: there is no such Maildir, so that mail is deferred"),
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

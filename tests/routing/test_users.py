"""Who controls a local address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.programs import qmail_newu
from ekiden.routing import users as module
from ekiden.routing.users import Account, User, Users, UsersUnavailable, account_user

ASSIGN = """\
+:alias:7790:2108:/var/qmail/alias:-::
+joe-:joe:507:100:/home/joe:-::
=joe:joe:507:100:/home/joe:::
=Joe.Shmoe:shmoe:503:78:/home/shmoe:::
+joe-list-:list:508:100:/home/list:-:pre-:
=joe:other:1:1:/home/other:::
.
"""


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Programs set their own."""
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def home_with(tmp_path: Path, assign: str) -> Path:
    (tmp_path / "users").mkdir()
    (tmp_path / "alias").mkdir()
    (tmp_path / "users" / "assign").write_text(assign)
    assert qmail_newu.main([], str(tmp_path)) == 0
    return tmp_path


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (b"joe", User(b"joe", 507, 100, b"/home/joe", b"", b"")),
        (b"JOE", User(b"joe", 507, 100, b"/home/joe", b"", b"")),
        (b"joe-", User(b"joe", 507, 100, b"/home/joe", b"-", b"")),
        (b"joe-Direct", User(b"joe", 507, 100, b"/home/joe", b"-", b"Direct")),
        (b"joe-list-a-b", User(b"list", 508, 100, b"/home/list", b"-", b"pre-a-b")),
        (b"joe-list", User(b"joe", 507, 100, b"/home/joe", b"-", b"list")),
        (b"joe.shmoe", User(b"shmoe", 503, 78, b"/home/shmoe", b"", b"")),
        (b"bill", User(b"alias", 7790, 2108, b"/var/qmail/alias", b"-", b"bill")),
        (b"joey", User(b"alias", 7790, 2108, b"/var/qmail/alias", b"-", b"joey")),
    ],
)
def test_assignments(tmp_path: Path, local: bytes, expected: User) -> None:
    assert Users(home_with(tmp_path, ASSIGN), uid=0).find(local) == expected


def test_a_new_database_is_used_at_once(tmp_path: Path) -> None:
    users = Users(home_with(tmp_path, ASSIGN), uid=0)
    assert users.find(b"joe").uid == 507
    (tmp_path / "users" / "assign").write_text("=joe:joe:600:100:/home/joe:::\n.\n")
    assert qmail_newu.main([], str(tmp_path)) == 0
    assert users.find(b"joe").uid == 600


@pytest.mark.parametrize("octets", [b"", b"x" * 100, b"\xff" * 4096])
def test_a_broken_database_defers(tmp_path: Path, octets: bytes) -> None:
    home = home_with(tmp_path, ASSIGN)
    (home / "users" / "cdb").write_bytes(octets)
    with pytest.raises(UsersUnavailable, match="Trouble reading users/cdb"):
        Users(home, uid=0).find(b"joe")


@pytest.mark.parametrize("line", ["=joe:joe:x:100:/home/joe:::", "=joe:joe::100:/home/joe:::"])
def test_a_broken_assignment_defers(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsersUnavailable, match="not a number"):
        Users(home_with(tmp_path, f"{line}\n.\n"), uid=0).find(b"joe")


def test_root_gets_no_mail(tmp_path: Path) -> None:
    with pytest.raises(UsersUnavailable, match="never delivered as root"):
        Users(home_with(tmp_path, "=joe:root:0:0:/root:::\n.\n"), uid=0).find(b"joe")


def test_aliases_of_root_name_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "alias").mkdir()
    if os.getuid():
        pytest.skip("needs root, whose directory alias/ then is")
    with pytest.raises(UsersUnavailable, match=r"root: make the user alias with ekiden install --create-users\."):
        Users(tmp_path, accounts=lambda name: None, uid=0).find(b"joe")


def test_a_relative_home_defers(tmp_path: Path) -> None:
    with pytest.raises(UsersUnavailable, match="absolute"):
        Users(home_with(tmp_path, "=joe:joe:5:5:home/joe:::\n.\n"), uid=0).find(b"joe")


class Accounts:
    """The system's accounts, of which every home is below a directory owned by ``uid``."""

    def __init__(self, place: Path) -> None:
        self.place = os.fsencode(place)
        self.asked: list[bytes] = []

    def __call__(self, name: bytes) -> Account | None:
        self.asked.append(name)
        uid = os.stat(self.place).st_uid
        known = {
            b"joe": Account(b"joe", uid, 100, self.place),
            b"joe-b": Account(b"joe-b", uid, 101, self.place),
            b"root": Account(b"root", 0, 0, b"/root"),
            b"guest": Account(b"guest", uid + 1, 102, self.place),
            b"gone": Account(b"gone", uid, 103, self.place + b"/gone"),
            b"a" * 31: Account(b"a" * 31, uid, 104, self.place),
            b"b" * 32: Account(b"b" * 32, uid, 105, self.place),
            b"alias": Account(b"alias", uid, 106, b"/elsewhere"),
        }
        return known.get(name)


@pytest.fixture
def accounts(place: Path) -> Accounts:
    if os.geteuid() == 0:
        os.chown(place, 4242, 4242)
    return Accounts(place)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (b"joe", (b"joe", b"", b"")),
        (b"Joe", (b"joe", b"", b"")),
        (b"joe-A-b", (b"joe", b"-", b"A-b")),
        (b"joe-", (b"joe", b"-", b"")),
        (b"joe-b-c", (b"joe-b", b"-", b"c")),
        (b"joe+b", None),
        (b"root", None),
        (b"guest", None),
        (b"gone", None),
        (b"nobody-at-all", None),
        (b"-joe", None),
        (b"a" * 31 + b"-x", (b"a" * 31, b"-", b"x")),
        (b"b" * 32, None),
        (b"", None),
    ],
)
def test_accounts(accounts: Accounts, local: bytes, expected: tuple[bytes, bytes, bytes] | None) -> None:
    user = account_user(local, accounts)
    assert (user and (user.name, user.dash, user.ext)) == expected


def test_a_home_that_cannot_be_looked_at_defers(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: bytes) -> os.stat_result:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(module.os, "stat", stat)
    with pytest.raises(UsersUnavailable, match=r"Stale.*\(#4.3.0\)"):
        account_user(b"joe", lambda name: Account(name, 1, 1, b"/home"))


def test_everything_else_is_alias_and_alias_lives_in_the_home(accounts: Accounts, place: Path) -> None:
    user = Users(place, accounts, uid=0).find(b"Post.Master-x")
    assert user == User(b"alias", os.stat(place).st_uid, 106, os.fsencode(place / "alias"), b"-", b"Post.Master-x")


def test_without_an_alias_account_the_directorys_owner_is_alias(place: Path) -> None:
    (place / "alias").mkdir()
    if os.geteuid() == 0:
        os.chown(place / "alias", 4243, 4244)
    status = os.stat(place / "alias")
    user = Users(place, lambda name: None, uid=0).find(b"jiro")
    assert (user.name, user.uid, user.gid) == (b"alias", status.st_uid, status.st_gid)


def test_no_alias_at_all_defers(place: Path) -> None:
    with pytest.raises(UsersUnavailable, match="alias user"):
        Users(place, lambda name: None, uid=0).find(b"jiro")


def test_accounts_are_not_asked_for_twice_in_a_second(accounts: Accounts, place: Path) -> None:
    users = Users(place, accounts, uid=0)
    for _ in range(5):
        users.find(b"joe")
    assert accounts.asked == [b"joe"]


# Unprivileged


def test_without_root_everything_is_alias(accounts: Accounts, place: Path) -> None:
    user = Users(place, accounts, uid=1234).find(b"joe")
    assert user == User(b"alias", 1234, os.getegid(), os.fsencode(place / "alias"), b"-", b"joe")
    assert accounts.asked == []


def test_without_root_own_assignments_are_followed(tmp_path: Path) -> None:
    users = Users(home_with(tmp_path, ASSIGN), uid=507)
    assert users.find(b"joe-x").home == b"/home/joe"
    with pytest.raises(UsersUnavailable, match="uid 503: not started as root"):
        users.find(b"joe.shmoe")

"""Accounts whose mail sendmail sent elsewhere."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ekiden.migration import accounts
from ekiden.migration.accounts import accounts as of_home
from ekiden.migration.accounts import assign, follow_forward_files, forward_files
from ekiden.migration.finding import Report
from ekiden.migration.plan import Plan, carry_out
from ekiden.migration.reading import Reading
from ekiden.programs import qmail_newu
from ekiden.routing.users import Users, UsersUnavailable


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("alias", "control", "users"):
        (tmp_path / name).mkdir()
    return tmp_path


def assigned(home: Path, *names: str) -> list[str]:
    """users/assign and users/cdb, written as a migration does."""
    plan = Plan("me.example")
    assign(list(names), home, plan)
    carry_out(home, plan.steps(home, replace=False))
    umask = os.umask(0o022)
    try:
        assert qmail_newu.main([], str(home)) == 0
    finally:
        os.umask(umask)
    return (home / "users" / "assign").read_text().splitlines()


def test_an_alias_comes_before_the_account(home: Path) -> None:
    (line, end) = assigned(home, "bob")
    assert line.startswith("=bob:alias:")
    assert line.endswith(f":{home}/alias:-:bob:")
    assert end == "."
    try:
        user = Users(home).find(b"bob")
    except UsersUnavailable:
        # Without a user alias the directory is root's, and root gets no mail.
        assert os.getuid() == 0
    else:
        assert (user.name, user.dash, user.ext) == (b"alias", b"-", b"bob")


def test_other_assignments_stay(home: Path) -> None:
    (home / "users" / "assign").write_text("=joe:joe:1:1:/home/joe:::\n=bob:bob:2:2:/home/bob:::\n.\n")
    lines = assigned(home, "bob", "carol")
    assert lines[:2] == ["=joe:joe:1:1:/home/joe:::", "=bob:bob:2:2:/home/bob:::"]
    assert [line.partition(":")[0] for line in lines[2:]] == ["=carol", "."]
    assert assigned(home, "bob", "carol") == lines


def test_nobody_to_assign_changes_nothing(home: Path) -> None:
    plan = Plan("me.example")
    assign([], home, plan)
    assert plan.files == {}


def test_aliases_of_accounts_are_assigned(home: Path) -> None:
    mail = home / "mail"
    mail.mkdir()
    (mail / "aliases").write_text("bob: carol@far.example\ndave: x@far.example\n")
    plan = Reading(mail, home, "me.example", lambda name: name == "bob").plan
    assert [line.partition(":")[0] for line in plan.files["users/assign"]] == ["=bob", "."]


def test_accounts_count_in_the_home_of_root_only(home: Path) -> None:
    name = next(
        (one.pw_name for one in pwd.getpwall() if one.pw_uid and Path(one.pw_dir).exists() and owns(one)), None
    )
    if name is None:
        pytest.skip("no account but root owns its home")
    assert of_home(home)(name) == (home.stat().st_uid == 0)
    assert not of_home(home)("no-such-account")


def owns(account: pwd.struct_passwd) -> bool:
    return Path(account.pw_dir).stat().st_uid == account.pw_uid and len(account.pw_name) < 32


@pytest.mark.parametrize(
    ("there", "planned", "wanted"),
    [
        (None, None, ["|dot-forward .forward", "./Mailbox"]),
        ("./Mail/\n", None, ["|dot-forward .forward", "./Mail/"]),
        ("|dot-forward .forward\n./Mail/\n", None, ["|dot-forward .forward", "./Mail/"]),
        (None, ["./Maildir/"], ["|dot-forward .forward", "./Maildir/"]),
    ],
)
def test_forward_files_are_followed(
    home: Path, there: str | None, planned: list[str] | None, wanted: list[str]
) -> None:
    if there is not None:
        (home / "control" / "defaultdelivery").write_text(there)
    plan, report = Plan("me.example"), Report()
    if planned:
        plan.add("control/defaultdelivery", *planned)
    follow_forward_files([Path("/home/bob/.forward")], home, plan, report)
    assert plan.files == {"control/defaultdelivery": wanted}
    assert len(report.findings) == 1


def test_without_forward_files_nothing_runs_for_them(home: Path) -> None:
    plan = Plan("me.example")
    follow_forward_files([], home, plan, Report())
    assert plan.files == {}


def test_forward_files_are_those_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for name, uid in (("root", 0), ("own", os.getuid() or 1), ("none", 5), ("foreign", 77_777)):
        directory = tmp_path / name
        directory.mkdir()
        if name != "none":
            (directory / ".forward").write_text("x@far.example\n")
        if os.getuid() == 0 and name == "own":
            os.chown(directory / ".forward", 1, 1)
        rows.append(pwd.struct_passwd((name, "x", uid, 1, "", str(directory), "/bin/sh")))
    monkeypatch.setattr(accounts.pwd, "getpwall", lambda: rows)
    assert list(forward_files()) == [tmp_path / "own" / ".forward"]

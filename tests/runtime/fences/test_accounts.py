"""Users looked up behind a fence: nobody is taken for missing because the fence was in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.routing.users import UsersUnavailable
from ekiden.runtime.fences import accounts as fenced_accounts
from ekiden.runtime.fences.accounts import Accounts, places, strange_sources, unfenceable


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("passwd: files systemd\n", []),
        ("hosts: dns\npasswd:\t\tsss files [SUCCESS=merge] systemd\n", []),
        (" passwd:files [!NOTFOUND = return] db # ldap\n", []),
        ("passwd: files ldap\n", ["ldap"]),
        ("passwd: compat nis winbind\n", ["compat", "nis", "winbind"]),
        ("#passwd: files\nhosts: files\n", ["the C library's own choice"]),
        ("", ["the C library's own choice"]),
    ],
)
def test_sources_of_users(text: str, strange: list[str]) -> None:
    assert strange_sources(text) == strange


def test_why_there_can_be_no_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "nsswitch.conf"
    monkeypatch.setattr(fenced_accounts, "SWITCH", switch)
    assert unfenceable() == f"{switch}: No such file or directory"
    switch.write_text("passwd: files nis ldap\n")
    assert unfenceable() == f"{switch} has users looked up in nis, ldap"
    switch.write_text("passwd: files\n")
    assert unfenceable() == ""


def test_where_a_linked_passwd_leads_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passwd").symlink_to(tmp_path / "elsewhere" / "passwd")
    monkeypatch.setattr(fenced_accounts, "PASSWD", tmp_path / "passwd")
    assert {tmp_path / "elsewhere", Path("/etc")} <= set(places())


def test_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    switch, passwd, told = tmp_path / "nsswitch.conf", tmp_path / "passwd", []
    switch.write_text("passwd: files\n")
    passwd.touch()
    monkeypatch.setattr(fenced_accounts, "SWITCH", switch)
    monkeypatch.setattr(fenced_accounts, "PASSWD", passwd)
    accounts = Accounts(lambda: told.append("changed"))
    root = accounts.find(b"root")
    assert root is not None and root.uid == 0
    assert accounts.find(b"no:body") is None

    passwd.unlink()
    assert accounts.find(b"root") is not None
    with pytest.raises(UsersUnavailable, match="Unable to read"):
        accounts.find(b"no:body")
    assert told == []

    passwd.touch()
    os.utime(switch, (1, 1))
    for name in (b"root", b"no:body"):
        with pytest.raises(UsersUnavailable, match=r"has changed. \(#4.3.0\)"):
            accounts.find(name)
    assert told == ["changed"] * 2

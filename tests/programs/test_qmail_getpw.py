"""qmail-getpw: the six fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.programs import qmail_getpw
from ekiden.routing.users import Account, User, UsersUnavailable


def test_usage(tmp_path: Path) -> None:
    assert qmail_getpw.main([], str(tmp_path)) == 100


def test_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    monkeypatch.setattr(qmail_getpw, "account_user", lambda local: User(b"joe", 5, 6, b"/home/joe", b"-", local[4:]))
    assert qmail_getpw.main(["joe-x"], str(tmp_path)) == 0
    assert capfdbinary.readouterr().out == b"joe\x005\x006\0/home/joe\0-\0x\0"


def test_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    monkeypatch.setattr(qmail_getpw, "account_user", lambda local: None)
    monkeypatch.setattr(qmail_getpw, "system_account", lambda name: Account(name, 7, 8, b"/var/qmail/alias"))
    assert qmail_getpw.main(["Bill"], str(tmp_path)) == 0
    assert capfdbinary.readouterr().out == b"alias\x007\x008\0/var/qmail/alias\0-\0Bill\0"


def test_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def unreachable(local: bytes) -> None:
        raise UsersUnavailable("x")

    monkeypatch.setattr(qmail_getpw, "account_user", lambda local: None)
    monkeypatch.setattr(qmail_getpw, "system_account", lambda name: None)
    assert qmail_getpw.main(["x"], str(tmp_path)) == 116
    monkeypatch.setattr(qmail_getpw, "account_user", unreachable)
    assert qmail_getpw.main(["x"], str(tmp_path)) == 115
    assert capfdbinary.readouterr().out == b""

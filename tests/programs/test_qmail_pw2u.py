"""qmail-pw2u: rules, options and the files in users/."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ekiden.programs import qmail_pw2u


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
    """Feed accounts (``NAME UID HOME``) and get exit code and lines."""
    (tmp_path / "users").mkdir()

    def feed(accounts: str, *options: str) -> tuple[int, list[str]]:
        passwd = "".join("{}:x:{}:7:gecos:{}:/bin/sh\n".format(*line.split()) for line in accounts.splitlines())
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(passwd.encode())))
        code = qmail_pw2u.main(options, str(tmp_path))
        return code, capfdbinary.readouterr().out.decode().splitlines()

    return feed


ALIAS = ["+:alias:5:7:/a:-::", "=alias:alias:5:7:/a:::", "+alias-:alias:5:7:/a:-::"]
BASE = "alias 5 /a\n"


def test_plain(run) -> None:
    assert run(BASE + "joe 6 /j\nroot 0 /r\nUpper 8 /u", "-H") == (
        0,
        [*ALIAS, "=joe:joe:6:7:/j:::", "+joe-:joe:6:7:/j:-::", "."],
    )


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["-H", "-u"], ["=Joe:Joe:6:7:/j:::", "+Joe-:Joe:6:7:/j:-::"]),
        (["-Hu", "-c+"], ["=Joe:Joe:6:7:/j:::", "+Joe+:Joe:6:7:/j:-::"]),
        (["-Huc", "+"], ["=Joe:Joe:6:7:/j:::", "+Joe+:Joe:6:7:/j:-::"]),
        (["-HuC"], ["=Joe:Joe:6:7:/j:::"]),
        (["-Huc", ""], ["=Joe:Joe:6:7:/j:::"]),
        (["-Hu/"], ["=Joe:Joe:6:7:/j:::", "+Joe-:Joe:6:7:/j:-/::"]),
        (["-HuU"], []),
    ],
)
def test_options(run, options: list[str], lines: list[str]) -> None:
    code, out = run(BASE + "Joe 6 /j", *options)
    assert code == 0
    assert [line for line in out if "Joe" in line] == lines


@pytest.mark.parametrize("option", ["-x", "-c"])
def test_usage(run, option: str) -> None:
    assert run(BASE, option) == (100, [])


def test_homes(run, tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    uid = 4242 if os.geteuid() == 0 else os.geteuid()
    if os.geteuid() == 0:
        os.chown(own, uid, uid)
    accounts = f"alias {uid} {own}\njoe {uid} {own}\nann {uid + 1} {other}\ntom {uid} {tmp_path}/gone"
    code, out = run(accounts)
    assert (code, [line.split(":")[0] for line in out]) == (0, ["+", "=alias", "+alias-", "=joe", "+joe-", "."])
    assert run(accounts, "-h")[0] == 111


def test_no_alias(run) -> None:
    assert run("joe 6 /j", "-H")[0] == 111


def test_files(run, tmp_path: Path) -> None:
    users = tmp_path / "users"
    (users / "include").write_text("# those\nalias\nJoe\nann\n")
    (users / "exclude").write_text("ann\n")
    (users / "mailnames").write_text("joe:Joe.Shmoe:joey\nalias:postmaster\n")
    (users / "subusers").write_text("sub:joe:pre:\nignored\nalso:joe\n")
    (users / "append").write_text("=x:y:1:1:/:::\n")
    assert run(BASE + "joe 6 /j\nann 7 /n\ntom 8 /t", "-H") == (
        0,
        [
            ALIAS[0],
            "=postmaster:alias:5:7:/a:::",
            "+postmaster-:alias:5:7:/a:-::",
            "=Joe.Shmoe:joe:6:7:/j:::",
            "+Joe.Shmoe-:joe:6:7:/j:-::",
            "=joey:joe:6:7:/j:::",
            "+joey-:joe:6:7:/j:-::",
            "=sub:joe:6:7:/j:-:pre:",
            "+sub-:joe:6:7:/j:-:pre-:",
            "=x:y:1:1:/:::",
            ".",
        ],
    )


def test_an_unknown_users_subuser(run, tmp_path: Path) -> None:
    (tmp_path / "users" / "subusers").write_text("sub:tom:pre:\n")
    assert run(BASE, "-H")[0] == 111

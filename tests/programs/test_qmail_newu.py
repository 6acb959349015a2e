"""qmail-newu: what is compiled, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.programs import qmail_newu
from ekiden.tables.cdb import Cdb


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Programs set their own."""
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def compile_assign(tmp_path: Path, text: bytes) -> int:
    (tmp_path / "users").mkdir(exist_ok=True)
    (tmp_path / "users" / "assign").write_bytes(text)
    return qmail_newu.main([], str(tmp_path))


def test_records(tmp_path: Path) -> None:
    text = (
        b"=Joe:joe:503:78:/home/joe:::\n+joe-:joe:503:78:/home/joe:-::\n+:alias:1:2:/a:-:p:rest\n+x-:a:1:2:/:-::\n.\n"
    )
    assert compile_assign(tmp_path, text) == 0
    with Cdb(tmp_path / "users" / "cdb") as cdb:
        assert list(cdb.items()) == [
            (b"!joe\0", b"joe\x00503\x0078\0/home/joe\0\0"),
            (b"!joe-", b"joe\x00503\x0078\0/home/joe\0-\0"),
            (b"!", b"alias\x001\x002\0/a\0-\0p"),
            (b"!x-", b"a\x001\x002\0/\0-\0"),
            (b"", b"-"),
        ]
    assert (tmp_path / "users" / "cdb").stat().st_mode & 0o777 == 0o644


def test_nothing_after_the_dot_counts(tmp_path: Path) -> None:
    assert compile_assign(tmp_path, b".\nrubbish") == 0
    assert compile_assign(tmp_path, b".") == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"=a:b:1:1:/:::\n",
        b"=a:b:1:1:/:::\n.x"[:-2],
        b"=a:b:1:1:/::\n.\n",
        b"no colon\n.\n",
        b":a:1:1:/:::\n.\n",
        b"\n.\n",
        b"=a\0:b:1:1:/:::\n.\n",
    ],
)
def test_bad_format_leaves_the_old_database(tmp_path: Path, text: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    compile_assign(tmp_path, b"=old:old:1:1:/:::\n.\n")
    before = (tmp_path / "users" / "cdb").read_bytes()
    assert compile_assign(tmp_path, text) == 111
    assert capsys.readouterr().err.startswith("qmail-newu: fatal: bad format in users/assign: ")
    assert (tmp_path / "users" / "cdb").read_bytes() == before


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert qmail_newu.main([], str(tmp_path)) == 111
    assert capsys.readouterr().err == "qmail-newu: fatal: unable to use users/assign: No such file or directory\n"

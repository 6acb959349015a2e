"""qmail-lspawn as qmail-send talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

UID = 4242 if os.geteuid() == 0 else os.getuid()


@pytest.fixture
def home(place: Path) -> Path:
    (place / "queue" / "mess" / "7").mkdir(parents=True)
    (place / "queue" / "mess" / "7" / "30").write_text("Subject: x\n\n")
    (place / "alias").mkdir()
    for name, text in {
        "ok": "./Mailbox\n",
        "no": "|echo no; exit 100\n",
        "later": "|echo later; exit 111\n",
        "kill": "|kill -9 $PPID; sleep 0.3\n",
        "nul": "|printf 'a\\0b'; exit 100\n",
        "long": "|head -c 100000 /dev/zero | tr '\\0' x; exit 100\n",
        "who": "|id -u\n",
        "default": "#\n",
    }.items():
        (place / "alias" / f".qmail-{name}").write_text(text)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{UID}:{UID}", place / "alias"], check=True)
    return place


def spawn(home: Path, *commands: bytes) -> dict[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "ekiden.cli", "--home", str(home), "qmail-lspawn", "./Mailbox"],
        input=b"".join(commands),
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout[:1]) == (0, bytes((120,)))
    return {report[0]: report[1:] for report in done.stdout[1:].split(b"\0")[:-1]}


def command(number: int, recipient: bytes, message: bytes = b"7/30") -> bytes:
    return bytes((number,)) + message + b"\0a@b.org\0" + recipient + b"\0"


def test_reports(home: Path) -> None:
    names = [b"ok", b"no", b"later", b"kill", b"nul", b"long", b"other"]
    reports = spawn(home, *(command(number, name + b"@x") for number, name in enumerate(names, 1)))
    assert reports[1] == b"Kdid 1+0+0\n"
    assert reports[2] == b"Dno\n"
    assert reports[3] == b"Zlater\n"
    assert reports[4] == b"Zqmail-local crashed.\n"
    assert reports[5] == b"Da"
    assert len(reports[6]) == 3001
    assert reports[7] == b"Kdid 0+0+0\n"
    assert (home / "alias" / "Mailbox").read_text().startswith("From a@b.org ")
    assert (home / "alias" / "Mailbox").stat().st_uid == UID


def test_the_user(home: Path) -> None:
    assert spawn(home, command(1, b"who@x")) == {1: b"K%d\ndid 0+0+1\n" % UID}


@pytest.mark.parametrize(
    ("line", "letter"),
    [
        (command(1, b"nohost"), b"D"),
        (command(1, b"ok@x", b""), b"D"),
        (command(1, b"ok@x", b"../../etc/passwd"), b"D"),
        (command(1, b"ok@x", b"/7"), b"D"),
        (command(1, b"ok@x", b"7/31"), b"Z"),
        (command(1, b"ok@x", b"7"), b"Z"),
        (command(200, b"ok@x"), b"Z"),
        (command(1, b"@x"), b"K"),
    ],
)
def test_odd_commands(home: Path, line: bytes, letter: bytes) -> None:
    ((number, report),) = spawn(home, line).items()
    assert number == line[0]
    assert report.startswith(letter)


def test_somebody_elses_file_is_no_message(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(home / "queue" / "mess" / "7" / "30", 4243, 4243)
    assert spawn(home, command(1, b"ok@x"))[1].startswith(b"ZSorry")


def test_another_program_in_qmail_locals_place(home: Path) -> None:
    (home / "bin").mkdir()
    other = home / "bin" / "qmail-local"
    other.write_text("#!/bin/sh\nid -u; pwd; printf '<%s>' \"$@\"; cat; exit 100\n")
    other.chmod(0o755)
    said = f"D{UID}\n{home}\n<--><alias><{home}/alias><ok-x><-><ok-x><x><a@b.org><./Mailbox>Subject: x\n\n"
    assert spawn(home, command(1, b"ok-x@x"), command(2, b"@x")) == {1: said.encode(), 2: b"K"}
    other.write_text("#!/bin/sh\nexit 1\nrun_classic('qmail-local'\n")
    assert spawn(home, command(1, b"ok@x")) == {1: b"Kdid 1+0+0\n"}

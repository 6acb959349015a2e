"""qmail-rspawn as qmail-send talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peers.processes import free_port
from tests.peers.sinks import Sink

from ekiden.programs.qmail_rspawn import joined

MESSAGE = "Subject: x\n\n.dot\n"


@pytest.fixture
def home(place: Path) -> Path:
    (place / "queue" / "mess" / "7").mkdir(parents=True)
    (place / "queue" / "mess" / "7" / "30").write_text(MESSAGE)
    (place / "control").mkdir()
    (place / "control" / "me").write_text("a.example\n")
    return place


def spawn(home: Path, *commands: bytes, **environment: str) -> dict[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "ekiden.cli", "--home", str(home), "qmail-rspawn"],
        input=b"".join(commands),
        capture_output=True,
        env={"PATH": os.environ["PATH"], **environment},
        timeout=60,
    )
    assert (done.returncode, done.stdout[:1], done.stderr) == (0, bytes((120,)), b"")
    assert done.stdout[1:] == b"" or done.stdout.endswith(b"\0")
    return {report[0]: report[1:] for report in done.stdout[1:].split(b"\0")[:-1]}


def command(number: int, recipient: bytes, message: bytes = b"7/30") -> bytes:
    return bytes((number,)) + message + b"\0s@b.org\0" + recipient + b"\0"


def program(place: Path, text: str) -> str:
    script = place / "remote"
    script.write_text("#!/bin/sh\n" + text)
    script.chmod(0o755)
    return str(script)


def test_a_delivery(home: Path, sink: Sink) -> None:
    (home / "control" / "smtproutes").write_text(f":{sink.route}\n")
    reports = spawn(home, *(command(number, b"r%d@c.org" % number) for number in (1, 5, 119)))
    assert {
        number: report.split(b" Remote host said", 1)[0][:34] for number, report in reports.items()
    } == dict.fromkeys((1, 5, 119), b"K127.0.0.1 accepted message.\nRemot")
    received = sink.received()
    assert sorted(one.to for one in received) == [["r119@c.org"], ["r1@c.org"], ["r5@c.org"]]
    assert all(one.content.endswith(b"Subject: x\r\n\r\n.dot\r\n") for one in received)
    assert all(one.sender.startswith("<s@b.org>") for one in received)


def test_nobody_there(home: Path) -> None:
    (home / "control" / "smtproutes").write_text(f":[127.0.0.1]:{free_port()}\n")
    (report,) = spawn(home, command(1, b"r@c.org")).values()
    assert report.startswith(b"Z") and b"(#4.4.1)" in report


def test_qmailremote_gets_host_sender_and_recipient(home: Path, place: Path) -> None:
    script = program(place, 'printf "r\\0K%s|%s|%s|" "$@"; cat; printf "\\0"')
    assert spawn(home, command(3, b"a b@c.org"), QMAILREMOTE=script) == {
        3: b"Kc.org|s@b.org|a b@c.org|" + MESSAGE.encode()
    }


def test_another_qmail_remote_on_path(home: Path, place: Path) -> None:
    (place / "bin").mkdir()
    script = place / "bin" / "qmail-remote"
    script.write_text('#!/bin/sh\nprintf "hno\\0Znot you\\0"\n')
    script.chmod(0o755)
    reports = spawn(home, command(1, b"r@c.org"), PATH=f"{place / 'bin'}:{os.environ['PATH']}")
    assert reports == {1: b"Dno"}


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("kill -9 $$", b"Zqmail-remote crashed.\n"),
        ("exit 111", b"ZUnable to run qmail-remote.\n"),
        ("exit 100", b"DUnable to run qmail-remote.\n"),
        ("exit 0", b"Zqmail-remote produced no output.\n"),
        ("printf Kdone", b"ZUnable to understand qmail-remote's report. (#4.3.0)\n"),
        ("echo wrong >&2; printf '\\0K\\0'", b"Krong\n"),
    ],
)
def test_odd_programs(home: Path, place: Path, text: str, report: bytes) -> None:
    assert spawn(home, command(1, b"r@c.org"), QMAILREMOTE=program(place, text)) == {1: report}


def test_what_came_of_it_is_found_behind_much_else(home: Path, place: Path) -> None:
    script = program(place, "printf r; head -c 200000 /dev/zero | tr '\\0' x; printf '\\0Ktaken\\n\\0'")
    report = spawn(home, command(3, b"r@c.org"), QMAILREMOTE=script)[3]
    assert (report[:2], report[-7:]) == (b"Kx", b"xtaken\n")
    assert len(report) < 70_000


def test_a_program_that_is_not_there(home: Path) -> None:
    assert spawn(home, command(1, b"r@c.org"), QMAILREMOTE="/none") == {1: b"DUnable to run qmail-remote.\n"}


def test_odd_commands(home: Path) -> None:
    commands = [
        (command(1, b"nohost"), b"D"),
        (command(2, b"r@c.org", b""), b"D"),
        (command(3, b"r@c.org", b"../../etc/passwd"), b"D"),
        (command(4, b"r@c.org", b"7/31"), b"Z"),
        (command(5, b"r@c.org", b"7"), b"Z"),
        (command(120, b"r@c.org"), b"Z"),
    ]
    reports = spawn(home, *(line for line, _letter in commands), QMAILREMOTE="/none")
    assert {number: report[:1] for number, report in reports.items()} == {
        line[0]: letter for line, letter in commands
    }


def test_number_zero_and_a_command_that_does_not_end(home: Path, place: Path) -> None:
    script = program(place, "printf 'r\\0Kok\\0'")
    done = subprocess.run(
        [sys.executable, "-m", "ekiden.cli", "--home", str(home), "qmail-rspawn"],
        input=command(0, b"r@c.org") + command(1, b"r@c.org")[:-1],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "QMAILREMOTE": script},
        timeout=60,
    )
    assert done.stdout == b"x\0Kok\0"


@pytest.mark.parametrize(
    ("reports", "one"),
    [
        ([b"r", b"Kdone\n"], b"Kdone\n"),
        ([b"r", b"Zlater\n"], b"Zlater\n"),
        ([b"r", b"Dnever\n"], b"Dnever\n"),
        ([b"hno\n", b"Kdone\n"], b"Dno\n"),
        ([b"hno\n", b"Znone\n"], b"Dno\n"),
        ([b"hno\n", b"Dnone\n"], b"Dno\nnone\n"),
        ([b"snot now\n", b"Kdone\n"], b"Znot now\n"),
        ([b"snot now\n", b"Zlater\n"], b"Znot now\nlater\n"),
        ([b"snot now\n", b"Dnever\n"], b"Znot now\nnever\n"),
        ([b"Zno connection\n"], b"Zno connection\n"),
        ([b"Kdone\n"], b"Kdone\n"),
        ([b"r", b"r", b"Kdone\n"], b"K"),
        ([], b"ZUnable to understand qmail-remote's report. (#4.3.0)\n"),
        ([b"hno\n"], b"ZUnable to understand qmail-remote's report. (#4.3.0)\n"),
    ],
)
def test_the_reports_become_one(reports: list[bytes], one: bytes) -> None:
    assert joined(reports) == one


@given(st.lists(st.binary(max_size=5).filter(lambda octets: b"\0" not in octets), max_size=4))
def test_success_is_only_what_nobody_denies(reports: list[bytes]) -> None:
    letter = joined(reports)[:1]
    assert letter in (b"K", b"Z", b"D")
    if letter == b"K":
        assert any(report.startswith(b"K") for report in reports)
        assert reports[0][:1] not in (b"h", b"s", b"Z", b"D")

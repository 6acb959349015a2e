"""qmail-local as it is run: descriptor 0, exit codes, output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MESSAGE = "Subject: x\n\nbody\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "joe").mkdir()
    (tmp_path / "bin").mkdir()
    queue = tmp_path / "bin" / "qmail-queue"
    queue.write_text(f"#!/bin/sh\ncat > {tmp_path}/message\ncat <&1 > {tmp_path}/envelope\n")
    queue.chmod(0o755)
    return tmp_path


def run(home: Path, *arguments: str, ext: str = "", message: str = MESSAGE) -> subprocess.CompletedProcess[str]:
    if not any("/" in argument for argument in arguments):
        arguments += (
            "joe",
            str(home / "joe"),
            f"joe-{ext}",
            "-" if ext else "",
            ext,
            "x.org",
            "a@b.org",
            "./Mailbox",
        )
    (home / "input").write_text(message)
    environment = {name: value for name, value in os.environ.items() if name != "QMAILQUEUE"}
    with open(home / "input") as file:
        return subprocess.run(
            [sys.executable, "-m", "ekiden.cli", "--home", str(home), "qmail-local", *arguments],
            stdin=file,
            capture_output=True,
            text=True,
            env=environment,
        )


def result(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_default_delivery(home: Path) -> None:
    assert result(run(home)) == (0, "did 1+0+0\n", "")
    assert (home / "joe" / "Mailbox").read_text().endswith("\nSubject: x\n\nbody\n\n")


def test_forward(home: Path) -> None:
    (home / "joe" / ".qmail-x").write_text("&c@d\n|cat > program\n|echo hello\n")
    code, out, err = result(run(home, "-nN", ext="x"))
    assert (code, err) == (0, "")
    hello, did, qp, number = out.split(None, 1)[0], *out.split("\n")[1:2], *out.split("\n")[2].split()
    assert (hello, did, qp) == ("hello", "did 0+1+2", "qp")
    assert number.isdigit()
    assert (home / "message").read_text() == "Delivered-To: joe-x@x.org\n" + MESSAGE
    assert (home / "envelope").read_bytes() == b"Fa@b.org\0Tc@d\0\0"
    assert (home / "joe" / "program").read_text() == MESSAGE


def test_no_mailbox(home: Path) -> None:
    assert result(run(home, ext="nobody")) == (100, "", "Sorry, no mailbox here by that name. (#5.1.1)\n")


def test_loop(home: Path) -> None:
    code, _out, err = result(run(home, ext="x", message="Delivered-To: joe-x@x.org\n\n"))
    assert code == 100
    assert err.startswith("This message is looping")


@pytest.mark.parametrize(("code", "expected"), [(99, 0), (100, 100), (77, 100), (111, 111), (3, 111)])
def test_exit_codes_of_programs(home: Path, code: int, expected: int) -> None:
    (home / "joe" / ".qmail-x").write_text(f"|echo said; exit {code}\n")
    done = run(home, ext="x")
    assert done.returncode == expected
    assert done.stdout.startswith("said\n")


def test_sticky_home(home: Path) -> None:
    (home / "joe").chmod(0o1755)
    assert run(home).returncode == 111
    code, out, err = result(run(home, "-n"))
    assert (code, out) == (0, "mbox ./Mailbox\ndid 1+0+0\n")
    assert "sticky" in err


def test_description(home: Path) -> None:
    (home / "joe" / ".qmail-x").write_text("# c\n&c@d\ne@f \n|prog arg\n./Mailbox\n/a/b/\n\n+list\n")
    code, out, err = result(run(home, "-n", ext="x"))
    assert (code, err) == (0, "")
    assert out == "forward c@d\nforward e@f\nprogram prog arg\nmbox ./Mailbox\nmaildir /a/b/\ndid 2+2+1\n"
    assert not (home / "joe" / "Mailbox").exists()


def test_description_of_what_is_refused(home: Path) -> None:
    (home / "joe" / ".qmail-x").write_text("a@b\n+list\n|x\n")
    code, out, err = result(run(home, "-n", ext="x"))
    assert (code, out) == (111, "forward a@b\n")
    assert "(#4.7.0)" in err


@pytest.mark.parametrize("arguments", [["-x", "/"], ["joe", "/"], ["a", "rel/home", "c", "d", "e", "f", "g", "h"]])
def test_usage(home: Path, arguments: list[str]) -> None:
    code, out, err = result(run(home, *arguments))
    assert (code, out) == (100, "")
    assert err.startswith("qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender ")


def test_a_pipe_is_no_message(home: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ekiden.cli",
        "qmail-local",
        "--",
        "joe",
        str(home / "joe"),
        *["x"] * 5,
        "./Mailbox",
    ]
    (home / "joe" / ".qmailxx").write_text("")
    done = subprocess.run(command, input=MESSAGE, capture_output=True, text=True)
    assert done.returncode == 111
    assert done.stderr == "Unable to rewind message: Illegal seek. (#4.3.0)\n"


def test_it_starts_without_what_the_daemon_needs() -> None:
    code = (
        "import sys, ekiden.programs.qmail_local\n"
        "print([name for name in ('asyncio', 'msgspec', 'uvloop', 'click', 'signal') if name in sys.modules])"
    )
    bare = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'src')!r})\n{code}",
    ]
    assert subprocess.run(bare, capture_output=True, text=True).stdout == "[]\n"


def test_limits_from_control(home: Path) -> None:
    (home / "control").mkdir()
    (home / "control" / "programseconds").write_text("1\n")
    (home / "joe" / ".qmail-x").write_text("|sleep 1000\n")
    assert result(run(home, ext="x")) == (111, "", "A program took too long and was ended. (#4.3.0)\n")
    (home / "control" / "quotabytes").write_text("10\n")
    (home / "control" / "quotaover").write_text("defer\n")
    (home / "joe" / ".qmail-x").write_text("./Maildir/\n")
    for name in ("tmp", "new", "cur"):
        (home / "joe" / "Maildir" / name).mkdir(parents=True)
    code, _out, err = result(run(home, ext="x"))
    assert (code, err.endswith("Maildir/ is over its quota. (#4.2.2)\n")) == (111, True)
    assert (home / "joe" / "Maildir" / "maildirsize").read_text() == "10S\n0 0\n"


@pytest.mark.parametrize(("name", "text"), [("programseconds", "1 hour"), ("quotabytes", "-1"), ("quotaover", "no")])
def test_a_limit_that_cannot_be_understood_defers(home: Path, name: str, text: str) -> None:
    (home / "control").mkdir()
    (home / "control" / name).write_text(text)
    code, _out, err = result(run(home))
    assert (code, err.endswith("(#4.3.5)\n")) == (111, True)
    assert not (home / "joe" / "Mailbox").exists()

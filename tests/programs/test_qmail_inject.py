"""qmail-inject as people run it, with a qmail-queue that writes down what it gets; rules are in tests/routing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.programs.conftest import Site


def test_the_guides_example(recorded: Site) -> None:
    done = recorded.run("qmail-inject", data=b"to: jiro\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert recorded.envelope == (b"jiro@indy2.nix.co.jj", [b"jiro@indy2.nix.co.jj"])
    assert re.fullmatch(
        rb"Date: \d+ \w+ \d+ \d\d:\d\d:\d\d -0000\n"
        rb"Message-ID: <\d{14}\.\d+\.qmail@indy2\.nix\.co\.jj>\n"
        rb"From: jiro@indy2\.nix\.co\.jj\n"
        rb"to: jiro@indy2\.nix\.co\.jj\n",
        recorded.message,
    )


@pytest.mark.parametrize(
    ("argv", "recipients"),
    [
        ([], [b"to", b"cc", b"bcc"]),
        (["-A"], [b"to", b"cc", b"bcc"]),
        (["-A", "arg"], [b"arg"]),
        (["arg"], [b"arg"]),
        (["-a", "arg", "more"], [b"arg", b"more"]),
        (["-a"], []),
        (["-h", "arg"], [b"to", b"cc", b"bcc"]),
        (["-H", "arg"], [b"arg", b"to", b"cc", b"bcc"]),
        (["-haH", "--", "-arg"], [b"-arg", b"to", b"cc", b"bcc"]),
    ],
)
def test_whom_it_goes_to(recorded: Site, argv: list[str], recipients: list[bytes]) -> None:
    done = recorded.run("qmail-inject", *argv, data=b"To: to\nCc: cc\nBcc: bcc\n\nhi\n")
    assert done.returncode == 0
    assert recorded.envelope[1] == [each + b"@indy2.nix.co.jj" for each in recipients]
    assert (b"no recipients" in done.stderr) == (not recipients)
    assert b"bcc" not in recorded.message


@pytest.mark.parametrize(
    ("argv", "environment", "sender"),
    [
        (["-f", "x"], {}, b"x@indy2.nix.co.jj"),
        (["-fx@y"], {"QMAILSUSER": "z"}, b"x@y.nix.co.jj"),
        (["-f", ""], {}, b""),
        (["-f", "a b@c.d"], {}, b"a b@c.d"),
        ([], {"QMAILSUSER": "s", "QMAILSHOST": "t+"}, b"s@t.co.jj"),
        ([], {"QMAILINJECT": "r"}, b"jiro-@indy2.nix.co.jj-@[]"),
        ([], {"QMAILDEFAULTHOST": "h", "QMAILDEFAULTDOMAIN": "d.x"}, b"jiro@h.d.x"),
        ([], {"QMAILDEFAULTHOST": "h+", "QMAILPLUSDOMAIN": "p.x"}, b"jiro@h.p.x"),
    ],
)
def test_sender(recorded: Site, argv: list[str], environment: dict[str, str], sender: bytes) -> None:
    assert recorded.run("qmail-inject", *argv, data=b"To: a\n\n", **environment).returncode == 0
    assert recorded.envelope[0] == sender


def test_nul_ends_an_address(recorded: Site) -> None:
    assert recorded.run("qmail-inject", data=b"To: joe\0Tmallory, \0, ann\nReturn-Path: s\0x\n\n").returncode == 0
    assert recorded.envelope == (b"s", [b"ann@indy2.nix.co.jj", b"joe"])


def test_control_files_and_their_overrides(recorded: Site) -> None:
    recorded.control("defaulthost", "mail\n")
    recorded.control("idhost", "id.example  \nsecond line\n")
    recorded.run("qmail-inject", data=b"To: a\n\n")
    assert recorded.envelope == (b"jiro@mail.nix.co.jj", [b"a@mail.nix.co.jj"])
    assert b".qmail@id.example>\n" in recorded.message
    recorded.run("qmail-inject", data=b"To: a\n\n", QMAILIDHOST="other.example")
    assert b".qmail@other.example>\n" in recorded.message


def test_message_is_printed_with_n(site: Site) -> None:
    done = site.run("qmail-inject", "-n", "-f", "a b", data=b"To: x\nReturn-Path: ignored\n\nbody without end")
    assert done.returncode == 0
    assert done.stdout.startswith(b'Return-Path: <"a b"@indy2.nix.co.jj>\nDate: ')
    assert done.stdout.endswith(b"To: x@indy2.nix.co.jj\n\nbody without end\n")


def test_mail_followup_to(recorded: Site) -> None:
    (recorded.place / "lists").write_text("# mine\nLIST@l.example\n")
    recorded.run("qmail-inject", data=b"To: list@l.example\nCc: a\n\n", QMAILMFTFILE="lists", cwd=recorded.place)
    assert b"Mail-Followup-To: a@indy2.nix.co.jj,\n  list@l.example\n" in recorded.message


@pytest.mark.parametrize(
    ("argv", "data", "said"),
    [
        (["-x"], b"", b"qmail-inject: illegal option -- x\n"),
        (["-f"], b"", b"qmail-inject: option requires an argument -- f\n"),
        ([], b"From: a (\nTo: b\n", b"qmail-inject: fatal: unable to parse this line:\nFrom: a (\n"),
        (["a@b("], b"", b"qmail-inject: fatal: unable to parse address: a@b(\n"),
    ],
)
def test_wrong_use(recorded: Site, argv: list[str], data: bytes, said: bytes) -> None:
    done = recorded.run("qmail-inject", *argv, data=data)
    assert (done.returncode, done.stderr) == (100, said)
    assert not (recorded.place / "envelope").exists()


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [(31, 100, b"(#5.3.0)"), (11, 100, b"(#5.1.3)"), (53, 111, b"(#4.3.0)"), (82, 100, b"not today (#5.7.1)")],
)
def test_what_qmail_queue_says(site: Site, code: int, exit_code: int, said: bytes) -> None:
    site.record(code)
    done = site.run("qmail-inject", data=b"To: a\n\n")
    assert done.returncode == exit_code
    assert done.stderr.startswith(b"qmail-inject: fatal: ") and said in done.stderr


def test_a_replaced_qmail_queue_is_run(recorded: Site) -> None:
    program = recorded.home / "bin" / "qmail-queue"
    program.unlink()
    program.symlink_to(recorded.environment.pop("QMAILQUEUE"))
    assert recorded.run("qmail-inject", data=b"To: a\n\n").returncode == 0
    assert recorded.envelope[1] == [b"a@indy2.nix.co.jj"]


def test_a_large_message(recorded: Site) -> None:
    body = b"x" * 70 + b"\n"
    recorded.run("qmail-inject", "a", data=b"To: a\n\n" + body * 20_000)
    assert recorded.message.endswith(b"\n\n" + body * 20_000)


def test_starts_without_what_it_does_not_need() -> None:
    code = "import sys, ekiden.programs.qmail_inject, ekiden.programs.sendmail; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "uvloop", "msgspec", "click", "rich", "ssl", "sqlite3", "dataclasses"} & set(loaded)

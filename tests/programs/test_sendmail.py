"""sendmail's options: with effect, without, and refused."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from tests.peers.processes import wait_until
from tests.programs.conftest import Running, Site

HOST = b"@indy2.nix.co.jj"


@pytest.mark.parametrize(
    ("argv", "data", "sender", "recipients"),
    [
        (["a"], b"To: x\n\n", b"jiro", [b"a"]),
        (["-t"], b"To: x\nBcc: y\n\n", b"jiro", [b"x", b"y"]),
        (["-t", "a"], b"To: x\n\n", b"jiro", [b"a", b"x"]),
        (["-ti", "-fs"], b"To: x\n\n", b"s", [b"x"]),
        (["-f", "s", "a"], b"\n", b"s", [b"a"]),
        (["-r", "s", "a"], b"\n", b"s", [b"a"]),
        (["-oi", "-oem", "-odb", "-i", "-m", "-v", "-em", "-B8BITMIME", "-n", "-U", "-G", "-Lcron", "-h5", "-x",
          "-OErrorMode=m", "-d", "-Ac", "-p", "smtp:host", "-M", "x", "-E", "-J", "a"], b"\n", b"jiro", [b"a"]),
        (["-bm", "--", "-a"], b"\n", b"jiro", [b"-a"]),
        (["-N", "failure,delay", "-R", "hdrs", "-V", "id+2B", "a"], b"\n", b"jiro", [b"a"]),
    ],
)  # fmt: skip
def test_sending(recorded: Site, argv: list[str], data: bytes, sender: bytes, recipients: list[bytes]) -> None:
    done = recorded.run("sendmail", *argv, data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert recorded.envelope == (sender + HOST, [each + HOST for each in recipients])


@pytest.mark.parametrize(
    ("argv", "field"),
    [
        (["-f", "w@x.y", "a"], b"From: w@x.y\n"),
        (["-f", "<w@x.y>", "a"], b"From: w@x.y\n"),
        (["-f", "w@x.y", "-F", "Wa Ta", "a"], b'From: "Wa Ta" <w@x.y>\n'),
        (["-FWa", "a"], b'From: "Wa" <jiro@indy2.nix.co.jj>\n'),
        (["-f", "<>", "a"], b"From: jiro@indy2.nix.co.jj\n"),
        (["a"], b'From: "N" <jiro@indy2.nix.co.jj>\n'),
    ],
)
def test_from(recorded: Site, argv: list[str], field: bytes) -> None:
    environment = {"NAME": "N"} if argv == ["a"] else {}
    recorded.run("sendmail", *argv, data=b"\n", **environment)
    assert field in recorded.message
    assert recorded.envelope[0] == (b"" if "<>" in argv else b"w@x.y" if "-f" in argv else b"jiro" + HOST)


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (["-t"], ["-H", "--"]),
        (["-oi", "-fw@x", "-F", "Wa", "a b", "-c"], ["-a", "-f", "w@x", "--", "a b", "-c"]),
        (["-f", "<>", "-t", "a"], ["-H", "-f", "", "--", "a"]),
    ],
)
def test_another_program_in_qmail_injects_place(site: Site, argv: list[str], called: list[str]) -> None:
    program = site.home / "bin" / "qmail-inject"
    program.unlink()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$QMAILNAME" "$#" "$@"; cat; exit 7\n')
    program.chmod(0o755)
    done = site.run("sendmail", *argv, data=b"To: x\r\n", QMAILNAME="old")
    name = "Wa" if "-F" in argv else "old"
    assert done.stdout.decode() == "\n".join([name, str(len(called)), *called, "To: x\r\n"])
    assert (done.returncode, done.stderr) == (7, b"")
    program.chmod(0o644)
    assert site.run("sendmail", *argv).returncode == 111


def test_lines_of_smtp_become_the_hosts(recorded: Site) -> None:
    recorded.run("sendmail", "a", data=b"Subject: x\r\n\r\na\r\n.\r\nb\n")
    assert recorded.message.endswith(b"Subject: x\n\na\n.\nb\n")
    recorded.run("sendmail", "a", data=b"Subject: x\n\na\r\n")
    assert recorded.message.endswith(b"Subject: x\n\na\r\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "no recipients"),
        (["-bd", "-q30m"], "start the daemon with: ekiden start"),
        (["-q1h"], "start the daemon with: ekiden start"),
        (["-bt"], "option -bt is refused"),
        (["-C", "/etc/other.cf", "a"], "option -C is refused"),
        (["-Q", "a"], "option -Q is refused"),
        (["-z", "a"], "illegal option -- z"),
        (["-N", "never,success", "a"], "-N never,success"),
        (["-R", "some", "a"], "-R some"),
        (["-V", "a b", "a"], "no xtext"),
    ],
)
def test_refused(recorded: Site, argv: list[str], said: str) -> None:
    done = recorded.run("sendmail", *argv, data=b"\n")
    assert done.returncode == 100
    assert said in done.stderr.decode()
    assert not (recorded.place / "envelope").exists()


def test_verifying(site: Site) -> None:
    done = site.run("sendmail", "-bv", "root", "a@b.example")
    assert done.stdout.decode().splitlines() == [
        "root... deliverable: mailer local, recipient root@indy2.nix.co.jj",
        "a@b.example... deliverable: mailer remote, recipient a@b.example",
    ]
    assert done.returncode == 0


@pytest.mark.parametrize("argv", [["-bp"], ["-q"]])
def test_asking_a_queue_that_is_not_there(site: Site, argv: list[str]) -> None:
    done = site.run("sendmail", *argv, EKIDEN_HOME=str(site.place / "none"))
    assert done.returncode == 111
    assert b"the queue does not answer" in done.stderr


def test_the_queue_is_shown_while_nothing_runs(site: Site) -> None:
    site.run("sendmail", "-f", "s@x.example", "to@far.example", data=b"Subject: x\n\n")
    listed = site.run("sendmail", "-bp").stdout.decode()
    assert re.fullmatch(r".* GMT  #1  \d+  <s@x\.example> \n\tremote\tto@far\.example\n", listed)


def test_called_as_mailq(site: Site) -> None:
    link = site.place / "mailq"
    link.symlink_to(site.home / "bin" / "sendmail")
    environment = {**os.environ, "EKIDEN_HOME": str(site.place / "none")}
    for program in (link, site.home / "bin" / "mailq"):
        done = subprocess.run([program], capture_output=True, timeout=60, env=environment)
        assert (done.returncode, b"qmail-qread: fatal" in done.stderr) == (111, True)


@pytest.mark.slow
def test_through_a_running_ekiden(running: Running) -> None:
    program = running.home / "bin" / "sendmail"
    data = b"To: tell@ekiden.example\nSubject: hi\n\nhello\n"
    subprocess.run([program, "-t", "-f", "w@x.example"], input=data, check=True, timeout=60)
    (path,) = running.arrived(1)
    message = path.read_bytes()
    assert message.startswith(b"Return-Path: <w@x.example>\nDelivered-To: tell@ekiden.example\nReceived: (qmail ")
    assert message.endswith(b"\nSubject: hi\n\nhello\n")
    waiting = [program, "-bp"]
    wait_until(lambda: not subprocess.run(waiting, capture_output=True, check=True, timeout=60).stdout, "it has left")
    assert subprocess.run([program, "-q"], timeout=60).returncode == 0

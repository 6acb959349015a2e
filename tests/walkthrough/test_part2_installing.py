"""The guide's part 2: users, the tree, config, aliases, the programs, on a machine that has never seen qmail."""

from __future__ import annotations

import re

import pytest
from tests.peers.ekiden import COMMAND, let_everyone_run
from tests.peers.fresh import QMAILS, Fresh
from tests.peers.machine import Machine
from tests.peers.processes import wait_until

pytestmark = pytest.mark.slow

PROGRAMS = """
bouncesaying condredirect datemail elq except forward maildir2mbox maildirmake maildirwatch mailsubj pinq predate
preline qail qbiff qmail-clean qmail-getpw qmail-inject qmail-local qmail-lspawn qmail-newmrh qmail-newu qmail-pop3d
qmail-popup qmail-pw2u qmail-qmqpc qmail-qmqpd qmail-qmtpd qmail-qread qmail-qstat qmail-queue qmail-remote
qmail-rspawn qmail-send qmail-showctl qmail-smtpd qmail-start qmail-tcpok qmail-tcpto qreceipt qsmhook sendmail
splogger tcp-env
addcr argv0 date@ delcr finger@ fixcrio http@ mconnect mconnect-io rblsmtpd recordio tcpcat tcpclient tcprules
tcprulescheck tcpserver who@
"""
"""W13's, and W22's."""


def test_w9_w10_users_tree_and_instcheck(fresh: Fresh) -> None:
    home = fresh.place / "qmail"
    refused = fresh.run(COMMAND, "install", home)
    assert refused.returncode == 1
    assert all(re.search(rf"there is no (user|group) {name}$", refused.stderr, re.MULTILINE) for name in QMAILS)
    assert not home.exists()
    assert fresh.run(COMMAND, "install", "--create-users", home).returncode == 0
    laid_out = {path.name for path in home.iterdir()}
    assert laid_out >= {"alias", "bin", "boot", "control", "doc", "man", "queue", "users"}
    let_everyone_run(home / "bin")
    checked = fresh.run(COMMAND, "--home", home, "instcheck")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    (home / "boot" / "proc").unlink()
    (home / "alias").chmod(0o700)
    checked = fresh.run(COMMAND, "--home", home, "instcheck")
    said = checked.stdout + checked.stderr
    assert "instcheck: warning: .../boot/proc does not exist\n" in said
    assert len([line for line in said.splitlines() if f"{home}/alias" in line]) == 1


def test_w11_config(fresh: Fresh) -> None:
    home = fresh.place / "qmail"
    assert fresh.run(COMMAND, "install", "--create-users", home).returncode == 0
    (fresh.place / "etc" / "resolv.conf").unlink(missing_ok=True)
    (fresh.place / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    nameless = fresh.run(COMMAND, "--home", home, "config")
    assert "canonical name" in nameless.stdout + nameless.stderr
    assert "control/me" in nameless.stdout + nameless.stderr
    assert not (home / "control" / "me").exists()
    fast = fresh.run(home / "bin" / "config-fast", "indy2.nix.co.jj")
    assert fast.returncode == 0
    put = re.findall(r"Putting (\S+) into control/(\w+)", fast.stdout)
    assert ("nix.co.jj", "defaultdomain") in put and ("co.jj", "plusdomain") in put
    assert {name for _value, name in put} == {"me", "defaultdomain", "plusdomain", "locals", "rcpthosts"}
    for name, value in (("me", "indy2.nix.co.jj"), ("defaultdomain", "nix.co.jj"), ("plusdomain", "co.jj")):
        assert (home / "control" / name).read_text() == f"{value}\n"
    assert "SMTP messages are refused from now on, except to indy2.nix.co.jj.\n" in fast.stdout


def test_w12_aliases(machine: Machine) -> None:
    for name in ("postmaster", "mailer-daemon", "root"):
        file = machine.home / "alias" / f".qmail-{name}"
        file.write_text("&jiro@indy2.nix.co.jj\n" if name == "root" else "")
        file.chmod(0o644)
    machine.boot()
    mailbox = machine.user / "Mailbox"
    assert machine.run("qmail-inject", "root", data=b"subject: x\n\nfor root\n", USER="jiro").returncode == 0
    wait_until(lambda: mailbox.exists() and "\nfor root\n" in mailbox.read_text(), "root's mail in ~jiro/Mailbox")
    assert machine.run("qmail-inject", "postmaster", data=b"\nempty\n", USER="jiro").returncode == 0
    own = machine.home / "alias" / "Mailbox"
    wait_until(lambda: own.exists() and "\nempty\n" in own.read_text(), "the default delivery")


def test_w13_w22_every_program_is_there_and_answers(machine: Machine) -> None:
    """With arguments that nothing takes, and no input: whatever it says, it is not a fault of Python's."""
    bin_ = machine.home / "bin"
    for name in PROGRAMS.split():
        assert (bin_ / name).is_file(), name
        if name in ("qmail-send", "qmail-start", "splogger", "qmail-lspawn", "qmail-rspawn"):
            continue
        done = machine.run("timeout", "5", bin_ / name)
        assert b"Traceback" not in done.stderr, (name, done.stderr)
        assert done.returncode != 124, name


def test_w15_showctl(machine: Machine) -> None:
    machine.control("oddity", "x")
    shown = machine.run("qmail-showctl").stdout.decode()
    assert "\noddity: I have no idea what this file does.\n" in shown
    assert re.search(r"^badmailfrom: \(Default\.\) ", shown, re.MULTILINE)
    assert re.search(r"^me: [A-Z].* indy2\.nix\.co\.jj\.$", shown, re.MULTILINE)
    for text in ("user ids: 7790, 7791, 7792, 0, 7793, 7794, 7795, 7796.", "group ids: 2108, 2107."):
        assert text in shown
    assert "subdirectory split: " in shown
    assert "silent concurrency limit: " in shown

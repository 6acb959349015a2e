"""The guide's part 1: mail comes in by inetd and at once, is read by POP3, and waits where it can be seen."""

from __future__ import annotations

import poplib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import COMMAND
from tests.peers.machine import USERS, Machine
from tests.peers.processes import accepts, free_port, program, wait_until

pytestmark = pytest.mark.slow


def mailbox(machine: Machine) -> str:
    path = machine.user / "Mailbox"
    return path.read_text() if path.exists() else ""


def make_maildir(machine: Machine) -> Path:
    """``maildirmake ~jiro/Maildir`` and mail into it."""
    become = ("setpriv", "--reuid=jiro", "--regid=jiro", "--clear-groups")
    made = machine.run(*become, "maildirmake", machine.user / "Maildir")
    assert made.returncode == 0, made.stderr
    (machine.user / ".qmail").write_text("./Maildir/\n")
    return machine.user / "Maildir"


def test_w4_w21_inetd_starts_tcp_env_and_qmail_smtpd(machine: Machine) -> None:
    port = free_port()
    bin_ = machine.home / "bin"
    configuration = machine.place / "inetd.conf"
    line = f"127.0.0.1:{port} stream tcp nowait qmaild {bin_}/tcp-env tcp-env {bin_}/qmail-smtpd\n"
    configuration.write_text(line)
    machine.boot()
    machine.start(program("inetd"), "-i", configuration)
    wait_until(lambda: accepts("127.0.0.1", port), "inetd")
    with dialogue(port) as talk:
        said = talk.message(b"Subject: by inetd\r\n\r\nhello\r\n", "a@outside.example", "jiro@indy2.nix.co.jj")
        assert said[:3] == "250"
        assert talk.say("MAIL FROM:<a@outside.example>")[:3] == "250"
        assert talk.say("RCPT TO:<b@elsewhere.example>")[:3] == "553"
    wait_until(lambda: "\nhello\n" in mailbox(machine), "the message")
    assert "(HELO client.example) (127.0.0.1)" in mailbox(machine)


def test_w5_pop3_by_qmail_popup_checkpassword_and_qmail_pop3d(machine: Machine) -> None:
    make_maildir(machine)
    machine.boot()
    assert machine.run("qmail-inject", data=b"to: jiro\nsubject: kept\n\nin a Maildir\n", USER="root").returncode == 0
    new = machine.user / "Maildir" / "new"
    wait_until(lambda: any(new.iterdir()), "mail in the Maildir")
    uid, gid = USERS["jiro"]
    users = machine.home / "control" / "pop3users"
    users.write_text(f"jiro:{{PLAIN}}secret:{uid}:{gid}:{machine.user}\n")
    users.chmod(0o600)
    port, bin_ = free_port(), machine.home / "bin"
    chain = [bin_ / "qmail-popup", "indy2.nix.co.jj", bin_ / "checkpassword", bin_ / "qmail-pop3d", "Maildir"]
    machine.start("/usr/bin/tcpserver", "-RHl0", "127.0.0.1", str(port), *chain)
    wait_until(lambda: accepts("127.0.0.1", port), "tcpserver")
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    client.user("jiro")
    client.pass_("secret")
    assert client.stat()[0] == 1
    assert b"in a Maildir" in client.retr(1)[1]
    client.dele(1)
    client.quit()
    assert not any(new.iterdir())


def test_w8_many_at_once_into_one_mailbox(machine: Machine) -> None:
    machine.boot()

    def inject(number: int) -> int:
        return machine.run("qmail-inject", data=b"to: jiro\n\nnumber %d\n" % number, USER="root").returncode

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(inject, range(60))) == {0}
    wait_until(lambda: len(re.findall(r"^number \d+$", mailbox(machine), re.MULTILINE)) == 60, "all of them")
    assert len(re.findall(r"^From root@indy2\.nix\.co\.jj ", mailbox(machine), re.MULTILINE)) == 60


def test_w27_the_queue_can_be_looked_at(machine: Machine) -> None:
    machine.control("smtproutes", "elsewhere.example:[127.0.0.1]:9")
    machine.boot()
    sent = machine.run("qmail-inject", "-fme@nix.co.jj", "a@elsewhere.example", data=b"\nbody\n")
    assert sent.returncode == 0, sent.stderr

    def deferred() -> bool:
        listed = machine.run(COMMAND, "--home", machine.home, "queue", "list", "--json").stdout
        return b'"attempts":1' in listed.replace(b" ", b"")

    wait_until(deferred, "the first attempt")
    shown = machine.run("qmail-qstat").stdout
    assert shown == b"messages in queue: 1\nmessages in queue but not yet preprocessed: 0\n"
    lines = machine.run("qmail-qread").stdout.decode().splitlines()
    assert re.fullmatch(r"\d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT  #\d+  \d+  <me@nix\.co\.jj> ?", lines[0])
    assert lines[1].split() == ["remote", "a@elsewhere.example"]
    only_qmails_looks(machine, "\n".join(lines) + "\n")


def only_qmails_looks(machine: Machine, listed: str) -> None:
    """qmail-qread(8): "as root or with user id qmails"; what changes something is for root."""

    def run(user: str, program: str) -> tuple[int, str]:
        become = ("setpriv", f"--reuid={user}", "--regid=qmail", "--clear-groups")
        done = machine.run(*become, machine.home / "bin" / program)
        return done.returncode, done.stdout.decode()

    assert run("qmails", "qmail-qread") == (0, listed)
    assert run("qmails", "qmail-qstat")[0] == 0
    assert run("qmails", "qmail-tcpto") == (0, "")
    assert run("qmails", "qmail-tcpok") == (111, "")
    assert run("qmailr", "qmail-qread") == (111, "")


def test_w27_under_the_supervisor_too(machine: Machine) -> None:
    machine.control("listen", f"smtp 127.0.0.1:{free_port()}")
    started = machine.run(COMMAND, "--home", machine.home, "start")
    assert started.returncode == 0, started.stdout
    try:
        only_qmails_looks(machine, "")
    finally:
        machine.run(COMMAND, "--home", machine.home, "stop")

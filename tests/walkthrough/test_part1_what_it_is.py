"""The guide's part 1: what the system is. What part 4 shows on the whole site is in test_change_over.py."""

from __future__ import annotations

import poplib
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import COMMAND
from tests.peers.machine import USERS, Machine
from tests.peers.processes import accepts, free_port, program, wait_until

pytestmark = pytest.mark.slow


def start(machine: Machine) -> None:
    """``boot/home &``."""
    started = machine.start(machine.home / "boot" / "home")
    wait_until(lambda: machine.sender == started.pid, 20, "qmail-send")


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
    start(machine)
    machine.start(program("inetd"), "-i", configuration)
    wait_until(lambda: accepts("127.0.0.1", port), 20, "inetd")
    with dialogue(port) as talk:
        said = talk.message(b"Subject: by inetd\r\n\r\nhello\r\n", "a@outside.example", "jiro@indy2.nix.co.jj")
        assert said[:3] == "250"
        assert talk.say("MAIL FROM:<a@outside.example>")[:3] == "250"
        assert talk.say("RCPT TO:<b@elsewhere.example>")[:3] == "553"
    wait_until(lambda: "\nhello\n" in mailbox(machine), 20, "the message")
    assert "(HELO client.example) (127.0.0.1)" in mailbox(machine)


def test_w5_pop3_by_qmail_popup_checkpassword_and_qmail_pop3d(machine: Machine) -> None:
    make_maildir(machine)
    start(machine)
    assert machine.run("qmail-inject", data=b"to: jiro\nsubject: kept\n\nin a Maildir\n", USER="root").returncode == 0
    new = machine.user / "Maildir" / "new"
    wait_until(lambda: any(new.iterdir()), 20, "mail in the Maildir")
    uid, gid = USERS["jiro"]
    users = machine.home / "control" / "pop3users"
    users.write_text(f"jiro:{{PLAIN}}secret:{uid}:{gid}:{machine.user}\n")
    users.chmod(0o600)
    port, bin_ = free_port(), machine.home / "bin"
    chain = [bin_ / "qmail-popup", "indy2.nix.co.jj", bin_ / "checkpassword", bin_ / "qmail-pop3d", "Maildir"]
    machine.start("/usr/bin/tcpserver", "-RHl0", "127.0.0.1", str(port), *chain)
    wait_until(lambda: accepts("127.0.0.1", port), 20, "tcpserver")
    client = poplib.POP3("127.0.0.1", port, timeout=20)
    client.user("jiro")
    client.pass_("secret")
    assert client.stat()[0] == 1
    assert b"in a Maildir" in client.retr(1)[1]
    client.dele(1)
    client.quit()
    assert not any(new.iterdir())


def test_w7_virtual_domains(machine: Machine) -> None:
    machine.control("virtualdomains", "virtual.example:jiro")
    with (machine.home / "control" / "rcpthosts").open("a") as file:
        file.write("virtual.example\n")
    (machine.user / ".qmail-sales").write_text("./Sales\n")
    (machine.user / ".qmail-default").write_text("./Others\n")
    start(machine)
    for name in ("sales", "anybody"):
        sent = machine.run("qmail-inject", f"{name}@virtual.example", data=b"subject: x\n\nbody\n", USER="root")
        assert sent.returncode == 0, sent.stderr
    boxes = {name: machine.user / file for name, file in (("sales", "Sales"), ("anybody", "Others"))}
    for name, path in boxes.items():
        wait_until(lambda path=path: path.exists() and path.read_bytes().endswith(b"\n\n"), 20, f"mail for {name}")  # type: ignore[misc]
        assert f"Delivered-To: jiro-{name}@virtual.example\n" in path.read_text()


def test_w8_many_at_once_into_one_mailbox(machine: Machine) -> None:
    start(machine)

    def inject(number: int) -> int:
        return machine.run("qmail-inject", data=b"to: jiro\n\nnumber %d\n" % number, USER="root").returncode

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(inject, range(60))) == {0}
    wait_until(lambda: len(re.findall(r"^number \d+$", mailbox(machine), re.MULTILINE)) == 60, 60, "all of them")
    assert len(re.findall(r"^From root@indy2\.nix\.co\.jj ", mailbox(machine), re.MULTILINE)) == 60


def test_w27_the_queue_can_be_looked_at(machine: Machine) -> None:
    machine.control("smtproutes", "elsewhere.example:[127.0.0.1]:9")
    start(machine)
    sent = machine.run("qmail-inject", "-fme@nix.co.jj", "a@elsewhere.example", data=b"\nbody\n")
    assert sent.returncode == 0, sent.stderr

    def deferred() -> bool:
        listed = machine.run(COMMAND, "--home", machine.home, "queue", "list", "--json").stdout
        return b'"attempts":1' in listed.replace(b" ", b"")

    wait_until(deferred, 20, "the first attempt")
    shown = machine.run("qmail-qstat").stdout
    assert shown == b"messages in queue: 1\nmessages in queue but not yet preprocessed: 0\n"
    lines = machine.run("qmail-qread").stdout.decode().splitlines()
    assert re.fullmatch(r"\d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT  #\d+  \d+  <me@nix\.co\.jj> ?", lines[0])
    assert lines[1].split() == ["remote", "a@elsewhere.example"]


def test_w28_stamps_are_right_without_tz(machine: Machine) -> None:
    """The zone is /etc/localtime's, which no boot script need say."""
    listening = free_port()
    machine.control("listen", f"smtp 127.0.0.1:{listening}")
    zone = Path("/usr/share/zoneinfo/Asia/Tokyo")
    assert zone.exists()
    mounted = subprocess.run(machine._inside(("mount", "--bind", zone, "/etc/localtime")), check=False)
    assert mounted.returncode == 0
    started = machine.run(COMMAND, "--home", machine.home, "start")
    assert started.returncode == 0, started.stderr
    try:
        log = machine.home / "log" / "ekiden.log"
        wait_until(lambda: log.exists() and "status: local" in log.read_text(), 20, "the log")
        first = next(line for line in log.read_text().splitlines() if "status: local" in line)
        said = machine.run("date", "-d", "@" + first.split(" qmail: ")[1].split(".")[0], "+%b %e %H:%M:%S").stdout
        assert first.startswith(said.decode().rstrip("\n"))
    finally:
        machine.run(COMMAND, "--home", machine.home, "stop")

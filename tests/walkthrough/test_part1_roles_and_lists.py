"""The guide's part 1: who runs as whom, mailing lists, and mailboxes that hold nothing up."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest
from tests.peers.dialogue import dialogue
from tests.peers.machine import Machine, Syslog
from tests.peers.processes import accepts, free_port, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow


def inject(machine: Machine, text: str) -> None:
    done = machine.run("qmail-inject", data=text.encode(), USER="root")
    assert (done.returncode, done.stderr) == (0, b"")


def texts(directory: Path) -> list[str]:
    return [path.read_text() for path in sorted((directory / "new").glob("*"))]


def remotes(machine: Machine) -> list[str]:
    """The user of qmail-rspawn, and of each delivery that it has begun."""
    return [user for user, args in machine.ps() if args == "qmail-rspawn"]


def test_w6_every_role_has_its_user_and_nothing_is_set_uid(machine: Machine) -> None:
    machine.dot_qmail(".qmail", "|id -un >who\n")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        machine.control("smtproutes", f":[127.0.0.1]:{silent.getsockname()[1]}")
        machine.boot()
        inject(machine, "to: jiro\n")
        inject(machine, "to: far@away.example\n")
        wait_until(lambda: len(remotes(machine)) == 2, "a remote delivery")
        assert set(remotes(machine)) == {"qmailr"}
    who = machine.user / "who"
    wait_until(lambda: who.exists() and who.read_text() == "jiro\n", "what the delivery was")
    found = machine.run("find", machine.home, "-ignore_readdir_race", "-type", "f", "-perm", "/6000")
    assert (found.returncode, found.stdout) == (0, b"")

    port = free_port()
    uid, gid = (machine.run("id", option, "qmaild").stdout.decode().strip() for option in ("-u", "-g"))
    server = machine.start(
        *(machine.home / "bin" / "tcpserver", "-RH", "-u", uid, "-g", gid, "127.0.0.1", str(port)),
        machine.home / "bin" / "qmail-smtpd",
    )
    wait_until(lambda: accepts("127.0.0.1", port), "tcpserver listens")
    with dialogue(port) as talk:
        talk.say("NOOP")
        shown = machine.run("ps", "-o", "user:20=", "--ppid", str(server.pid), "-p", str(server.pid)).stdout.split()
        assert set(shown) == {b"qmaild"}
        assert len(shown) >= 2


def test_w7_a_virtual_domain_with_a_mailing_list(machine: Machine, sink: Sink) -> None:
    """Every subscriber has an envelope sender of his own, so that a bounce says whose address is bad."""
    machine.control("virtualdomains", "club.example:alias-club")
    (machine.home / "alias" / ".qmail-club-all").write_text("&jiro-all@indy2.nix.co.jj\n")
    machine.control("smtproutes", f":{sink.route}")
    machine.dot_qmail(".qmail-all", "&haruo@far.example\n&gone@indy2.nix.co.jj\n&katou@far.example\n")
    machine.dot_qmail(".qmail-all-owner", "./Mailbox\n")
    machine.dot_qmail(".qmail-all-owner-default", '|echo "$DEFAULT" >>bad\n')
    machine.boot()
    inject(machine, "to: all@club.example\nfrom: jiro@indy2.nix.co.jj\nsubject: meeting\n\nat ten\n")
    wait_until(lambda: len(sink.received()) == 2, "subscribers get it")
    envelopes = {message.to[0]: message.sender.partition(">")[0].lstrip("<") for message in sink.received()}
    assert envelopes == {
        name: f"jiro-all-owner-{name.replace('@', '=')}@indy2.nix.co.jj"
        for name in ("haruo@far.example", "katou@far.example")
    }
    # What bounces here tells the bad addresses in its text; what bounces elsewhere, in its envelope.
    bounced = machine.run(
        "sendmail", "-f", "<>", envelopes["haruo@far.example"], data=b"Subject: failure\n\nunknown\n"
    )
    assert bounced.returncode == 0, bounced.stderr
    bad = machine.user / "bad"
    wait_until(lambda: bad.exists() and len(bad.read_text().splitlines()) == 2, "the list learns of bad addresses")
    assert sorted(bad.read_text().splitlines()) == ["", "haruo=far.example"]
    assert not (machine.user / "Mailbox").exists()


def test_w8_a_locked_mailbox_holds_nothing_else_up(machine: Machine, syslog: Syslog) -> None:
    machine.dot_qmail(".qmail-box", "./Mailbox\n")
    machine.dot_qmail(".qmail-dir", "./Maildir/\n")
    for path in (machine.user / "Maildir", *(machine.user / "Maildir" / part for part in ("cur", "new", "tmp"))):
        path.mkdir()
        os.chown(path, 4100, 4100)
    mailbox = machine.user / "Mailbox"
    machine.dot_qmail("Mailbox", "")
    machine.boot()
    with mailbox.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        inject(machine, "to: jiro-box\n\nwaits\n")
        syslog.wait_for("status: local 1/10 remote 0/20")
        for number in range(20):
            inject(machine, f"to: jiro-dir\n\nnumber {number}\n")
        wait_until(lambda: len(texts(machine.user / "Maildir")) == 20, "twenty messages beside it")
        assert mailbox.read_bytes() == b""
    wait_until(lambda: mailbox.read_bytes().endswith(b"\n\nwaits\n\n"), "the one that waited")
    arrived = sorted(text.rpartition("number ")[2] for text in texts(machine.user / "Maildir"))
    assert arrived == sorted(f"{number}\n" for number in range(20))

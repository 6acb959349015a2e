"""The guide's part 3: starting qmail beside sendmail, and the first messages."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from tests.peers.machine import GROUPS, USERS, Machine, Syslog
from tests.peers.processes import is_alive, process_tree, wait_until
from tests.peers.sinks import Sink

STAMPED = re.compile(r"<22>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d qmail: (\d{10}\.\d{6}) (.*)")


def texts(entries: list[str]) -> list[str]:
    """The entries' texts, each of which bears facility mail, priority info, the tag and its time stamp."""
    matches = [STAMPED.fullmatch(entry) for entry in entries]
    assert all(matches), entries
    stamps = [float(match[1]) for match in matches if match]
    assert stamps == sorted(stamps)
    return [match[2] for match in matches if match]


def delivered(machine: Machine) -> bytes:
    mailbox = machine.user / "Mailbox"
    wait_until(lambda: mailbox.exists() and mailbox.read_bytes().endswith(b"\n\n"), "a message in ~/Mailbox")
    return mailbox.read_bytes()


def test_w16_ps_shows_the_roles_under_their_users(machine: Machine, syslog: Syslog) -> None:
    started = machine.boot()
    syslog.wait_for("status: local 0/10 remote 0/20")
    assert sorted(machine.ps()) == [
        ("qmaill", "splogger qmail"),
        ("qmailq", "qmail-clean"),
        ("qmailq", "qmail-send"),
        ("qmailr", "qmail-rspawn"),
        ("root", "qmail-lspawn ./Mailbox"),
    ]
    assert machine.run("pidof", "qmail-send").stdout.split().count(b"%d" % started.pid) == 1
    lines = Path(f"/proc/{started.pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert set(status["Uid"].split()) == {str(USERS["qmailq"][0])}
    assert set(status["Gid"].split()) == {str(GROUPS["qmail"])}
    assert status["Groups"].strip() == ""


def test_w14_each_script_starts_with_its_default_delivery(machine: Machine) -> None:
    commands = {
        "home": "./Mailbox",
        "proc": "|preline procmail",
        "binm1": '|preline -f /usr/libexec/mail.local -r "${SENDER:-MAILER-DAEMON}" -d "$USER"',
        "binm2": '|preline -f /bin/mail -r "${SENDER:-MAILER-DAEMON}" -d "$USER"',
        "binm3": '|preline -f /bin/mail -f "${SENDER:-MAILER-DAEMON}" -d "$USER"',
    }
    # What a start does is shown by the other tests; here only what each script hands to it.
    recorder = machine.home / "bin" / "qmail-start"
    recorder.write_text('#!/bin/sh\nprintf "%s\\0" "$PATH" "$@"\nenv -0\n')
    for script in [*commands, *(f"{name}+df" for name in commands)]:
        done = machine.run(machine.home / "boot" / script, LEFT="over")
        path, default, *logger_and_environment = done.stdout.split(b"\0")
        assert path.startswith(os.fsencode(machine.home / "bin") + b":")
        name, _, forwards = script.partition("+")
        assert default.decode() == ("|dot-forward .forward\n" if forwards else "") + commands[name]
        assert logger_and_environment[:2] == [b"splogger", b"qmail"]
        assert not any(line.startswith(b"LEFT=") for line in logger_and_environment)


def test_w17_a_message_to_a_user_here(machine: Machine, syslog: Syslog) -> None:
    machine.boot()
    done = machine.run("qmail-inject", data=b"to: jiro\n", USER="hana", TZ="UTC0")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    entry = re.compile(
        rb"From hana@indy2\.nix\.co\.jj (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\n"
        rb"Return-Path: <hana@indy2\.nix\.co\.jj>\n"
        rb"Delivered-To: jiro@indy2\.nix\.co\.jj\n"
        rb"Received: \(qmail (\d+) invoked by uid 0\); (\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d -0000)\n"
        rb"Date: (\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d -0000)\n"
        rb"Message-ID: <(\d{14})\.(\d+)\.qmail@indy2\.nix\.co\.jj>\n"
        rb"From: hana@indy2\.nix\.co\.jj\n"
        rb"to: jiro@indy2\.nix\.co\.jj\n"
        rb"\n"
    )
    entries = delivered(machine)
    assert entry.fullmatch(entries)
    assert (machine.user / "Mailbox").stat().st_uid == USERS["jiro"][0]
    log = texts(syslog.wait_for("end msg 1"))
    # What was injected is what follows Delivered-To; it counts as in the queue, where lines end with CRLF.
    injected = entries[entries.index(b"Received:") : -1].replace(b"\n", b"\r\n")
    assert [re.sub(r"qp \d+", "qp P", line) for line in log] == [
        "status: local 0/10 remote 0/20",
        "new msg 1",
        f"info msg 1: bytes {len(injected)} from <hana@indy2.nix.co.jj> qp P uid 0",
        "starting delivery 1: msg 1 to local jiro@indy2.nix.co.jj",
        "status: local 1/10 remote 0/20",
        "delivery 1: success: did_1+0+0/",
        "status: local 0/10 remote 0/20",
        "end msg 1",
    ]


def test_w18_the_log_of_a_message_through_another_server(machine: Machine, syslog: Syslog, sink: Sink) -> None:
    machine.control("smtproutes", f":{sink.route}")
    started = machine.boot()
    assert machine.run("qmail-inject", data=b"to: haruo@nix.co.jj\n", USER="root").returncode == 0
    syslog.wait_for("end msg 1")
    processes = process_tree([started.pid])
    assert len(processes) == 5
    os.kill(started.pid, signal.SIGTERM)
    log = texts(syslog.wait_for("status: exiting"))
    assert [re.sub(r"(?<=bytes )\d+|(?<=qp )\d+|(?<=said:_)250_.*", "N", line) for line in log] == [
        "status: local 0/10 remote 0/20",
        "new msg 1",
        "info msg 1: bytes N from <root@indy2.nix.co.jj> qp N uid 0",
        "starting delivery 1: msg 1 to remote haruo@nix.co.jj",
        "status: local 0/10 remote 1/20",
        "delivery 1: success: 127.0.0.1_accepted_message./Remote_host_said:_N",
        "status: local 0/10 remote 0/20",
        "end msg 1",
        "status: exiting",
    ]
    (received,) = sink.received()
    assert received.to == ["haruo@nix.co.jj"]
    # Everything that was started ends with it.
    wait_until(lambda: not any(map(is_alive, processes)), "end of all five")


def test_w18_term_waits_for_the_delivery_in_progress(machine: Machine, syslog: Syslog) -> None:
    (machine.user / ".qmail").write_text("|until test -e go; do sleep 0.05; done; echo went\n")
    started = machine.boot()
    assert machine.run("qmail-inject", data=b"to: jiro\n", USER="root").returncode == 0
    syslog.wait_for("status: local 1/10 remote 0/20")
    os.kill(started.pid, signal.SIGTERM)
    assert is_alive(started.pid)
    (machine.user / "go").touch()
    log = texts(syslog.wait_for("status: exiting"))
    assert log[-4:-2] == ["delivery 1: success: went/did_0+0+1/", "status: local 0/10 remote 0/20 exitasap"]
    assert log[-2:] == ["end msg 1", "status: exiting"]


def test_w19_hup_rereads_the_virtual_domains(machine: Machine, syslog: Syslog) -> None:
    started = machine.boot()
    syslog.wait_for("status: local 0/10 remote 0/20")
    machine.control("virtualdomains", "club.example:jiro")
    (machine.user / ".qmail-default").write_text("./Mailbox\n")
    os.kill(started.pid, signal.SIGHUP)
    wait_until(lambda: '"generation": 2' in (machine.home / "run" / "roles").read_text(), "new settings")
    assert machine.run("qmail-inject", data=b"to: all@club.example\n", USER="root").returncode == 0
    assert b"Delivered-To: jiro-all@club.example\n" in delivered(machine)

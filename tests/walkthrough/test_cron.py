"""Debian's cron daemon on the guide's machine: what a job prints is mailed through our sendmail."""

from __future__ import annotations

import re

from tests.peers.machine import Machine
from tests.peers.processes import program, wait_until

SET_UP = """
mount --bind bin/sendmail /usr/sbin/sendmail
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
chgrp crontab /var/spool/cron/crontabs
if [ -e /etc/crontab ]; then mount --bind ../empty /etc/crontab; fi
mkdir ../jobs
if [ -d /etc/cron.d ]; then mount --bind ../jobs /etc/cron.d; fi
cp /etc/shadow ../shadow
echo 'jiro:*:20000:0:99999:7:::' >>../shadow
mount --bind ../shadow /etc/shadow
crontab -u jiro ../table
"""
"""In the machine's own mount namespace: our sendmail in its place, no jobs but the test's, and an account for PAM."""

JOB = "@reboot printf 'said by the job \\303\\251\\n.\\nend'; id -u\n"


def test_what_a_job_prints(machine: Machine) -> None:
    """A job for when cron starts, because others wait for a full minute."""
    program("cron")
    (machine.place / "table").write_text("LC_ALL=C.UTF-8\n" + JOB)
    (machine.place / "empty").touch()
    done = machine.run("sh", "-euc", f"cd {machine.home}\n{SET_UP}")
    assert (done.returncode, done.stderr) == (0, b"")
    machine.boot()
    cron = machine.start("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "cron", "-f")
    mailbox = machine.user / "Mailbox"
    try:
        wait_until(lambda: mailbox.exists() and b"4100" in mailbox.read_bytes(), "the job's mail")
    finally:
        cron.kill()
    header, _blank, body = mailbox.read_bytes().partition(b"\n\n")
    assert body == "said by the job \u00e9\n.\nend4100\n\n".encode()
    said = header.decode()
    # cron starts sendmail without USER and LOGNAME, so that nobody knows who it is, as with qmail's own.
    sender = "anonymous@indy2.nix.co.jj"
    assert said.startswith(f"From {sender} ")
    assert f"\nReturn-Path: <{sender}>\nDelivered-To: jiro@indy2.nix.co.jj\n" in said
    assert re.search(r"\nReceived: \(qmail \d+ invoked by uid 4100\); ", said)
    assert "\nFrom: root@indy2.nix.co.jj (Cron Daemon)\nTo: jiro@indy2.nix.co.jj\nSubject: Cron <jiro@" in said

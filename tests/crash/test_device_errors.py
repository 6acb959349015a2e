"""A device that fails under the queue: nobody is told 250 for what is not on disk, and the queue comes back."""

from __future__ import annotations

import os
import smtplib
import subprocess
import time
from pathlib import Path

import pytest
from tests.crash.tracing import attached
from tests.peers.ekiden import Ekiden
from tests.peers.processes import kill, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]


def send(home: Ekiden) -> int:
    """The reply code at the end of a message; 0 for a lost connection."""
    try:
        with smtplib.SMTP("127.0.0.1", home.port, timeout=60) as client:
            client.mail("a@b.example")
            client.rcpt("c@d.example")
            return client.data("Subject: x\n\nbody\n")[0]
    except smtplib.SMTPDataError as error:
        return error.smtp_code
    except (smtplib.SMTPServerDisconnected, OSError):
        return 0


def queue_pid(home: Ekiden) -> int:
    return next((pid for pid, role in home.roles().items() if role == "queue"), 0)


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_failed_write_ends_the_queue_role_and_is_no_success(home: Ekiden, call: str) -> None:
    home.routes(":127.0.0.1:1")
    home.start()
    assert send(home) == 250
    wait_until(lambda: bool(home.queue()[0]["recipients"][0]["attempts"]), "the first is deferred")
    time.sleep(0.1)
    before = queue_pid(home)
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(before), "-e", f"trace={call}", "-e", f"inject={call}:error=EIO"],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    tracer.stderr.readline()  # attached
    assert send(home) in (0, 451)
    tracer.wait(60)
    wait_until(lambda: queue_pid(home) not in (0, before), "another queue role is there")
    wait_until(lambda: send(home) == 250, "mail is accepted again", step=0.2)
    told = "disk I/O error; starting again from the disk"
    wait_until(lambda: told in home.log(), "the administrator is told")
    # What was written and not synced may turn up: nobody was told so, and its sender may send it once more.
    assert len(home.queue()) in ((2, 3) if call == "fdatasync" else (2,))


def test_the_supervisor_goes_on_after_an_error_of_the_machine(home: Ekiden, place: Path) -> None:
    """Everything would end with it: here it is told that there is no memory to wait with."""
    home.start()
    supervisor, before = home.supervisor(), queue_pid(home)
    waiting = "select,pselect6"
    with attached([supervisor], place / "calls", "-e", f"inject={waiting}:error=ENOMEM:when=1..3", calls=waiting):
        kill(before)
        told = "supervisor: [Errno 12] Cannot allocate memory; going on"
        wait_until(lambda: home.log().count(told) >= 2, "the administrator is told")
    wait_until(lambda: queue_pid(home) not in (0, before), "another queue role is there")
    assert home.supervisor() == supervisor
    assert send(home) == 250

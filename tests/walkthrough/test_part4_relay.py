"""The guide's part 4: the script that starts and stops everything on the relay."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.peers.machine import Machine, Syslog
from tests.peers.processes import accepts, free_port, is_alive, kill, wait_until

RULES = '127.:allow,RELAYCLIENT=""\n:deny\n'


def door(machine: Machine) -> int:
    """tcpserver's process, as the script has noted it."""
    return int((machine.home / "run" / "tcpserver.pid").read_text())


@pytest.fixture
def settings(machine: Machine) -> dict[str, str]:
    """What the script is told: this home's boot/home as rc, a free port, compiled rules."""
    cdb = machine.place / "tcp.smtp.cdb"
    rules = machine.run("tcprules", cdb, machine.place / "tcp.smtp.tmp", data=RULES.encode())
    assert rules.returncode == 0, rules.stderr
    cdb.chmod(0o644)
    return {"PORT": str(free_port()), "ADDRESS": "127.0.0.1", "RULES": str(cdb)}


def test_w24_start_start_stop(machine: Machine, syslog: Syslog, settings: dict[str, str]) -> None:
    script = machine.home / "boot" / "init"
    first = machine.run(script, "start", **settings)
    assert (first.returncode, first.stdout, first.stderr) == (0, b"", b"")
    sender, listening = machine.sender, door(machine)
    try:
        wait_until(lambda: accepts("127.0.0.1", int(settings["PORT"])), "tcpserver")
        arguments = Path(f"/proc/{listening}/cmdline").read_bytes().split(b"\0")
        assert arguments[arguments.index(b"-x") + 1].decode() == settings["RULES"]
        assert machine.run("ps", "-o", "user=", "-p", str(listening)).stdout.split() == [b"qmaild"]
        assert machine.run(script, "status").stdout == b"qmail-send is running, process %d\n" % sender

        second = machine.run(script, "start", **settings)
        assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"")
        assert (machine.sender, door(machine)) == (sender, listening)
        assert is_alive(sender) and is_alive(listening)

        syslog.wait_for("status: local 0/10 remote 0/20")
        assert machine.run(script, "stop", **settings).returncode == 0
        assert not is_alive(sender)
        assert syslog.wait_for("status: exiting")
        wait_until(lambda: not is_alive(listening), "end of tcpserver")
        assert machine.run(script, "status").returncode == 3
        assert machine.run(script, "stop", **settings).returncode == 0
    finally:
        kill(listening)


def test_w24_stop_waits_for_deliveries(machine: Machine, syslog: Syslog, settings: dict[str, str]) -> None:
    script = machine.home / "boot" / "init"
    (machine.user / ".qmail").write_text("|until test -e go; do sleep 0.05; done\n./Mailbox\n")
    assert machine.run(script, "start", SMTP="no").returncode == 0
    assert machine.run("qmail-inject", data=b"to: jiro\n", USER="root").returncode == 0
    syslog.wait_for("status: local 1/10 remote 0/20")
    stopping = machine.start(script, "stop")
    sender = machine.sender
    wait_until(lambda: b"shutting down" in _refusal(machine), "qmail-send to take notice")
    assert stopping.poll() is None and is_alive(sender)
    (machine.user / "go").touch()
    assert stopping.wait(60) == 0
    assert not is_alive(sender)
    assert (machine.user / "Mailbox").read_text().startswith("From root@indy2.nix.co.jj ")


def _refusal(machine: Machine) -> bytes:
    return machine.run("qmail-inject", data=b"to: postmaster\n", USER="root").stderr


def test_w24_an_rc_that_does_not_start(machine: Machine) -> None:
    machine.control("locals", "a..b")
    (machine.home / "control" / "me").unlink()
    done = machine.run(machine.home / "boot" / "init", "start", SMTP="no")
    assert done.returncode == 1
    assert done.stderr == f"qmail: {machine.home}/boot/home has ended; the mail log says why\n".encode()


def test_w24_usage(machine: Machine) -> None:
    done = machine.run(machine.home / "boot" / "init", "begin")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"start|stop|restart|reload|flush|status" in done.stderr

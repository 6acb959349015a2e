"""qmail-start in a home of somebody else's than root, or of one's own: everything runs as that user."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.processes import is_alive, kill, process_tree, wait_until

from ekiden.installation.scripts import names, write_bin
from ekiden.programs import stranger
from ekiden.settings.first import configure, make_home

UID = 65534 if os.geteuid() == 0 else os.getuid()

SPAWNER = """#!/bin/sh
# A local spawner that delivers one message at a time, to itself.
printf '\\001'
dd bs=4096 count=1 2>/dev/null | tr '\\000' '\\n' | sed 's/^\\n*//' > {place}/command
printf '\\000Ktaken\\000'
cat > /dev/null
"""


class Starts:
    """A home and what was started in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "home"
        self.log = place / "log"
        make_home(self.home)
        configure(self.home, "a.example", lambda *_: None)
        write_bin(self.home)
        (self.home / "alias" / ".qmail-tell").write_text("./Mailbox\n")
        if os.geteuid() == 0:
            for path in (self.home, *self.home.rglob("*")):
                os.chown(path, UID, UID)
            place.chmod(0o777)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, path: str = "") -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [self.home / "bin" / "qmail-start", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.DEVNULL,
                env={"PATH": f"{path}{self.home / 'bin'}:{os.environ['PATH']}"},
            )
        self._started.append(started)
        return started

    def control(self, name: str, text: str) -> None:
        (self.home / "control" / name).write_text(text + "\n")

    def inject(self, *recipients: str) -> None:
        done = subprocess.run([self.home / "bin" / "qmail-inject", "-a", *recipients], input=b"\nhello\n", timeout=60)
        assert done.returncode == 0

    def program(self, name: str) -> str:
        done = subprocess.run([self.home / "bin" / name], capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def wait_for(self, line: str, log: Path | None = None) -> list[str]:
        """The lines so far, once this one is among them."""
        place = log or self.log
        lines: list[str] = []

        def come() -> bool:
            lines[:] = place.read_text().splitlines() if place.exists() else []
            return line in lines

        wait_until(come, line)
        return lines

    def stop(self) -> None:
        left = process_tree(started.pid for started in self._started)
        for pid in left:
            kill(pid)
        for started in self._started:
            started.wait()


@pytest.fixture
def starts(place: Path) -> Iterator[Starts]:
    made = Starts(place)
    yield made
    made.stop()


def test_without_arguments(starts: Starts) -> None:
    starts.control("defaultdelivery", "./Own")
    (starts.home / "alias" / ".qmail-own").write_text("")
    started = starts.start()
    starts.wait_for("status: local 0/10 remote 0/20")
    starts.inject("own@a.example")
    # The original's lines have no time stamps: loggers put them on.
    lines = starts.wait_for("end msg 1")
    assert lines[1] == "new msg 1" and lines[5] == "delivery 1: success: did_1+0+0/"
    assert (starts.home / "alias" / "Own").read_text().endswith("\nhello\n\n")
    assert (starts.home / "alias" / "Own").stat().st_uid == UID
    arguments = {Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0") for pid in process_tree([started.pid])}
    assert arguments == {b"qmail-send", b"qmail-lspawn\0./Own", b"qmail-rspawn", b"qmail-clean"}
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in process_tree([started.pid])} <= {UID, 0}
    started.terminate()
    assert started.wait(60) == 0
    assert starts.wait_for("status: exiting")[-1] == "status: exiting"


def test_addresses_that_time_out_are_told_and_forgotten(starts: Starts) -> None:
    starts.control("timeoutconnect", "1")
    with contextlib.ExitStack() as open_:
        listener = open_.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # its backlog is full
            client = open_.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        starts.control("smtproutes", f":[127.0.0.1]:{listener.getsockname()[1]}")
        starts.start("./Mailbox")
        starts.wait_for("status: local 0/10 remote 0/20")
        starts.inject("far@b.example")
        wait_until(lambda: starts.program("qmail-tcpto") != "", "the timeout is known")
    told = starts.program("qmail-tcpto")
    assert re.fullmatch(r"127\.0\.0\.1 timed out \d+ seconds ago; # recent timeouts: 1\n", told)
    assert starts.program("qmail-tcpok") == starts.program("qmail-tcpto") == ""


def test_a_default_delivery_and_a_logger_with_arguments(starts: Starts) -> None:
    kept = starts.place / "kept"
    started = starts.start("./Given", "sh", "-c", 'echo "$0 $1" > "$2"; exec cat >> "$2"', "a b", "c", str(kept))
    starts.wait_for("status: local 0/10 remote 0/20", kept)
    assert kept.read_text().startswith("a b c\n")
    assert starts.log.read_bytes() == b""
    starts.inject("tell@a.example")
    starts.wait_for("end msg 1", kept)
    processes = process_tree([started.pid])
    started.terminate()
    assert starts.wait_for("status: exiting", kept)[-1] == "status: exiting"
    wait_until(lambda: not any(map(is_alive, processes)), "end of all")


def test_a_logger_that_hangs_does_not_stop_the_mail(starts: Starts) -> None:
    # A log of more than a pipe holds (64 KiB).
    domain = ".".join(["x" * 60] * 4)
    starts.control("locals", domain)
    started = starts.start("./Mailbox", "sleep", "600")
    wait_until(lambda: (starts.home / "run" / "inject").exists(), "the socket")
    starts.inject(*[f"tell@{domain}"] * 250)
    mailbox = starts.home / "alias" / "Mailbox"
    wait_until(lambda: mailbox.exists() and mailbox.read_bytes().count(b"\nhello\n") == 250, "all messages")
    assert started.poll() is None


def test_a_logger_that_does_not_exist(starts: Starts) -> None:
    started = starts.start("./Mailbox", "/none")
    starts.wait_for("alert: /none: FileNotFoundError: [Errno 2] No such file or directory")
    wait_until(lambda: (starts.home / "run" / "inject").exists(), "the socket")
    starts.inject("tell@a.example")
    wait_until(lambda: (starts.home / "alias" / "Mailbox").exists(), "the message")
    assert started.poll() is None


def test_a_second_start(starts: Starts) -> None:
    first = starts.start()
    starts.wait_for("status: local 0/10 remote 0/20")
    second = starts.start()
    assert second.wait(60) == 111
    starts.wait_for(f"alert: cannot start: {starts.home}: ekiden or qmail-send is already running here")
    starts.inject("tell@a.example")
    starts.wait_for("end msg 1")
    assert first.poll() is None


def test_wrong_controls(starts: Starts) -> None:
    starts.control("queuelifetime", "for ever")
    started = starts.start()
    assert started.wait(60) == 111
    (line,) = starts.log.read_text().splitlines()
    assert line.startswith("alert: cannot start: ") and "queuelifetime" in line


def test_another_program_in_the_place_of_ours(starts: Starts) -> None:
    other = starts.place / "other"
    other.mkdir()
    (other / "qmail-lspawn").write_text(SPAWNER.format(place=starts.place))
    (other / "qmail-lspawn").chmod(0o755)
    started = starts.start("./Mailbox", path=f"{other}:")
    starts.wait_for("status: local 0/1 remote 0/20")
    starts.inject("tell@a.example")
    starts.wait_for("delivery 1: success: taken")
    starts.wait_for("end msg 1")
    command = (starts.place / "command").read_text().splitlines()
    assert command[-1] == "tell@a.example"
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 0


def test_ours_are_told_from_others(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(starts.home / "bin"))
    daemons = {"qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-clean", "qmail-remote", "splogger"}
    assert daemons <= set(names())
    assert {name: stranger(name) for name in daemons} == dict.fromkeys(daemons)
    (starts.home / "bin" / "qmail-send").write_text("#!/bin/sh\n")
    assert stranger("qmail-send") == str(starts.home / "bin" / "qmail-send")
    assert stranger("none") is None

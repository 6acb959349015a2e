"""qmail-send between spawners that the tests play, byte for byte on its seven descriptors."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.processes import wait_until

from ekiden.installation.scripts import write_bin
from ekiden.settings.first import configure, make_home

STARTER = """
import os, sys
# The pipes' ends come from 10 on; qmail-send's are 0 to 6.
for number in range(7):
    os.dup2(int(sys.argv[1 + number]), number)
os.closerange(7, 256)
from ekiden.cli import run_classic
sys.exit(run_classic("qmail-send", [], sys.argv[8]))
"""


class Channel:
    """A spawner's side: commands that came, reports to send."""

    def __init__(self, commands: int, reports: int) -> None:
        self.commands = commands
        self.reports = reports
        self.data = b""

    def command(self, seconds: float = 60) -> tuple[int, bytes, bytes, bytes]:
        """The next delivery: number, message file, sender, recipient."""
        while self.data.count(b"\0", 1) < 3:
            self._read(seconds)
        number, rest = self.data[0], self.data[1:]
        message, sender, recipient, self.data = rest.split(b"\0", 3)
        return number, message, sender, recipient

    def waiting(self, seconds: float) -> bool:
        """Whether something comes within that time."""
        return bool(select.select([self.commands], [], [], seconds)[0])

    def line(self) -> bytes:
        """The next command of the form that qmail-clean gets."""
        while b"\0" not in self.data:
            self._read(60)
        line, self.data = self.data.split(b"\0", 1)
        return line

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self.commands], [], [], seconds)
        assert ready, "no command came"
        data = os.read(self.commands, 4096)
        assert data, "the end came instead of a command"
        self.data += data

    def say(self, data: bytes) -> None:
        os.write(self.reports, data)

    def close(self) -> None:
        for descriptor in (self.commands, self.reports):
            os.close(descriptor)


class Theatre:
    """A running qmail-send, its log, and the three parts that a test plays."""

    def __init__(self, home: Path) -> None:
        self.home = home
        theirs, ours = [], []
        self._log, log = os.pipe()
        theirs.append(log)
        for _ in range(3):
            commands, to = os.pipe()
            back, reports = os.pipe()
            theirs += [to, back]
            ours.append(Channel(commands, reports))
        self.local, self.remote, self.cleaner = ours
        # Numbers above those that they become, and not those of anything else.
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 50) for descriptor in theirs]
        for descriptor in theirs:
            os.close(descriptor)
        self.process = subprocess.Popen([sys.executable, "-c", STARTER, *map(str, high), str(home)], pass_fds=high)
        for descriptor in high:
            os.close(descriptor)
        self.log = b""

    def spawners_say(self, local: int = 120, remote: int = 120) -> None:
        self.local.say(bytes((local,)))
        self.remote.say(bytes((remote,)))
        self.wait_for_log(f"status: local 0/{min(local, 10)} remote 0/20")

    def wait_for_log(self, line: str, seconds: float = 60) -> str:
        """All of the log so far, once it has this line or, with a final colon, one that begins so."""
        wanted = line.encode()
        deadline = time.monotonic() + seconds
        while not any(one == wanted or (line[-1] == ":" and one.startswith(wanted)) for one in self.log.split(b"\n")):
            ready, _, _ = select.select([self._log], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._log, 4096) if ready else b""
            assert data, f"{line!r} did not come after {self.log.decode()}"
            self.log += data
        return self.log.decode()

    def inject(self, *recipients: str, data: bytes = b"Subject: x\n\nbody\n", sender: str = "s@b.org") -> None:
        done = subprocess.run(
            [self.home / "bin" / "qmail-inject", "-a", "-f", sender, *recipients], input=data, timeout=60
        )
        assert done.returncode == 0

    def file(self, name: bytes) -> Path:
        return self.home / "queue" / "mess" / name.decode()

    def finish(self) -> int:
        """End with TERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.wait_for_log("status: exiting")
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._log)
        for channel in (self.local, self.remote, self.cleaner):
            channel.close()


@pytest.fixture
def home(place: Path) -> Path:
    home = place / "home"
    make_home(home)
    configure(home, "a.example", lambda *_: None)
    write_bin(home)
    return home


@pytest.fixture
def theatre(home: Path) -> Iterator[Theatre]:
    made = Theatre(home)
    yield made
    made.close()


def test_a_delivery_on_each_channel(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("jiro@a.example", "far@c.org", data=b"Subject: x\n\n.dot\nend\n")
    number, name, sender, recipient = theatre.local.command()
    other_number, other_name, other_sender, other_recipient = theatre.remote.command()
    assert (sender, recipient) == (b"s@b.org", b"jiro@a.example")
    assert (other_sender, other_recipient) == (b"s@b.org", b"far@c.org")
    assert name == other_name
    status = theatre.file(name).stat()
    assert name == b"%d/%d" % (status.st_ino % 23, status.st_ino)
    assert status.st_uid == theatre.file(name).parent.stat().st_uid
    content = theatre.file(name).read_bytes()
    assert content.startswith(b"Received: (qmail ") and content.endswith(b"\nSubject: x\n\n.dot\nend\n")
    assert b"\r" not in content

    theatre.local.say(bytes((number,)) + b"Kdid 1+0+0\n\0")
    theatre.wait_for_log("delivery 2: success: did_1+0+0/")
    assert theatre.file(name).exists()
    theatre.remote.say(bytes((other_number,)) + b"K1.2.3.4 took it.\n\0")
    assert theatre.cleaner.line() == b"foop/%d" % status.st_ino
    theatre.cleaner.say(b"+")
    log = theatre.wait_for_log("end msg 1")
    assert "starting delivery 1: msg 1 to remote far@c.org\n" in log
    assert "delivery 1: success: 1.2.3.4_took_it./\n" in log
    assert theatre.finish() == 0


def test_what_goes_beyond_is_told_as_relayed(theatre: Theatre) -> None:
    theatre.spawners_say()
    command = [theatre.home / "bin" / "sendmail", "-N", "success", "-f", "s@b.org", "jiro@a.example", "far@c.org"]
    subprocess.run(command, input=b"Subject: x\n\nbody\n", timeout=60, check=True)
    number, *_ = theatre.local.command()
    theatre.local.say(bytes((number,)) + b"Kdid 0+2+0\nqp 99\n\0")
    number, *_ = theatre.remote.command()
    theatre.remote.say(bytes((number,)) + b"K1.2.3.4 took it.\n\0")
    _number, name, sender, recipient = theatre.remote.command()
    assert (sender, recipient) == (b"", b"s@b.org")
    assert theatre.file(name).read_bytes().count(b"\nAction: relayed\n") == 2


def test_reports_byte_by_byte_and_several_at_once(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("a@a.example", "b@a.example", "c@a.example")
    numbers = {recipient: number for number, _name, _sender, recipient in (theatre.local.command() for _ in range(3))}
    assert sorted(numbers.values()) == [0, 1, 2]
    for octet in bytes((numbers[b"a@a.example"],)) + b"Kone\n\0":
        theatre.local.say(bytes((octet,)))
    both = (b"b@a.example", b"c@a.example")
    theatre.local.say(b"".join(bytes((numbers[each],)) + b"Ktwo\n\0" for each in both))
    log = theatre.wait_for_log("end msg 1")
    assert log.count("success: one/") == 1 and log.count("success: two/") == 2


def test_deferral_then_alarm_then_failure(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("no@a.example", sender="")
    number, first, _sender, _recipient = theatre.local.command()
    theatre.local.say(bytes((number,)) + b"Znot now (#4.2.1)\n\0")
    theatre.wait_for_log("delivery 1: deferral: not_now_(#4.2.1)/")
    assert theatre.cleaner.line() == b"foop/" + first.partition(b"/")[2]
    # What is due is asked of the store, where a result may be a moment later than in the log.
    while not theatre.local.waiting(0.1):
        theatre.process.send_signal(signal.SIGALRM)
    number, _second, _sender, _recipient = theatre.local.command()
    theatre.local.say(bytes((number,)) + b"Dnever (#5.2.1)\n\0")
    theatre.wait_for_log("delivery 2: failure: never_(#5.2.1)/")
    # The double bounce goes to the postmaster here.
    _number, name, sender, recipient = theatre.local.command()
    assert (sender, recipient) == (b"#@[]", b"postmaster@a.example")
    assert b"never" in theatre.file(name).read_bytes()


def test_what_is_no_report_defers(theatre: Theatre) -> None:
    theatre.spawners_say()
    reports = [b"", b"X", b"k", b"\xff" * 3]
    theatre.inject(*(f"u{number}@a.example" for number in range(len(reports))))
    for report in reports:
        number, *_ = theatre.local.command()
        theatre.local.say(bytes((number,)) + report + b"\0")
    for number in range(1, len(reports) + 1):
        theatre.wait_for_log(f"delivery {number}: report mangled, will defer")


def test_a_report_on_nothing_is_logged_and_changes_nothing(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("jiro@a.example")
    number, *_ = theatre.local.command()
    theatre.local.say(
        bytes((number + 1,)) + b"Kfalse\n\0" + bytes((number,)) + b"Ktrue\n\0" + bytes((number,)) + b"Kx\n\0"
    )
    log = theatre.wait_for_log("end msg 1")
    assert "delivery 1: success: true/" in log and "false" not in log
    assert log.count("warning: internal error: delivery report out of range\n") == 2


def test_an_endless_report_is_cut(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("jiro@a.example")
    number, *_ = theatre.local.command()
    theatre.local.say(bytes((number,)) + b"K" + b"x" * 30_000 + b"\0")
    log = theatre.wait_for_log("delivery 1: success:")
    (line,) = [line for line in log.split("\n") if line.startswith("delivery 1")]
    assert len(line) <= 10_000 + len("delivery 1: success: ")


def test_no_more_deliveries_than_a_spawner_can_run(theatre: Theatre) -> None:
    theatre.spawners_say(local=2)
    theatre.inject(*(f"u{number}@a.example" for number in range(4)))
    running = [theatre.local.command(), theatre.local.command()]
    with pytest.raises(AssertionError, match="no command"):
        theatre.local.command(seconds=0.3)
    theatre.local.say(bytes((running[0][0],)) + b"Kok\n\0")
    assert theatre.local.command()[0] == running[0][0]


def test_hup_rereads(theatre: Theatre) -> None:
    theatre.spawners_say()
    control = theatre.home / "control"
    (control / "virtualdomains").write_text("v.example:jiro\n")
    theatre.process.send_signal(signal.SIGHUP)
    wait_until(lambda: '"generation": 2' in (theatre.home / "run" / "roles").read_text(), "new settings")
    theatre.inject("x@v.example")
    assert theatre.local.command()[3] == b"jiro-x@v.example"
    (control / "queuelifetime").write_text("for ever\n")
    theatre.process.send_signal(signal.SIGHUP)
    theatre.wait_for_log("alert: unable to reread controls:")


def test_term_waits_for_reports(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("jiro@a.example")
    number, *_ = theatre.local.command()
    theatre.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        theatre.process.wait(0.3)
    theatre.local.say(bytes((number,)) + b"Kok\n\0")
    log = theatre.wait_for_log("status: exiting")
    assert log.endswith("end msg 1\nstatus: exiting\n")
    assert theatre.process.wait(60) == 0
    assert theatre.cleaner.line().startswith(b"foop/")


def test_a_lost_spawner_loses_no_message(home: Path) -> None:
    first = Theatre(home)
    first.spawners_say()
    first.inject("jiro@a.example", "far@c.org")
    first.local.command()
    number, *_ = first.remote.command()
    os.close(first.local.reports)
    first.local.reports = os.dup(0)
    first.wait_for_log("alert: oh no! lost qmail-lspawn connection! dying...")
    assert first.process.poll() is None
    first.remote.say(bytes((number,)) + b"Kok\n\0")
    log = first.wait_for_log("status: exiting")
    assert ": success: ok/\n" in log and "end msg" not in log
    assert first.process.wait(60) == 0
    first.close()
    second = Theatre(home)
    second.spawners_say()
    assert second.local.command()[3] == b"jiro@a.example"
    second.close()


def test_a_lost_or_unable_cleaner(theatre: Theatre) -> None:
    theatre.spawners_say()
    theatre.inject("jiro@a.example")
    number, name, *_ = theatre.local.command()
    theatre.local.say(bytes((number,)) + b"Kok\n\0")
    theatre.cleaner.line()
    theatre.cleaner.say(b"!")
    theatre.wait_for_log("warning: qmail-clean unable to clean up mess/" + name.decode().partition("/")[2])
    os.close(theatre.cleaner.reports)
    theatre.cleaner.reports = os.dup(0)
    theatre.wait_for_log("alert: oh no! lost qmail-clean connection! dying...")
    assert theatre.process.wait(60) == 0


def test_what_a_crash_left_is_cleaned_up_after_36_hours(home: Path) -> None:
    mess = home / "queue" / "mess" / "3"
    mess.mkdir(parents=True)
    for number, age in ((3, 36.1), (26, 35.9), (49, 36.1)):
        (mess / str(number)).touch()
        os.utime(mess / str(number), (time.time() - age * 3600,) * 2)
    # A message that the original qmail left is nobody's to remove.
    (home / "queue" / "info" / "3").mkdir(parents=True)
    (home / "queue" / "info" / "3" / "49").touch()
    theatre = Theatre(home)
    theatre.spawners_say()
    assert theatre.cleaner.line() == b"foop/3"
    assert theatre.finish() == 0
    assert theatre.cleaner.data == b""
    theatre.close()


def test_it_does_not_start_twice_nor_without_spawners(theatre: Theatre, home: Path) -> None:
    theatre.spawners_say()
    second = Theatre(home)
    second.wait_for_log(f"alert: cannot start: {home}: ekiden or qmail-send is already running here")
    assert second.process.wait(60) == 111
    second.close()
    assert theatre.finish() == 0
    third = Theatre(home)
    third.local.close()
    third.local = Channel(os.dup(0), os.dup(0))
    third.wait_for_log("alert: cannot start: the local spawner does not say how many deliveries it can run")
    assert third.process.wait(60) == 111
    third.close()


def test_wrong_controls(home: Path) -> None:
    (home / "control" / "queuelifetime").write_text("for ever\n")
    theatre = Theatre(home)
    theatre.wait_for_log("alert: cannot start:")
    assert theatre.process.wait(60) == 111
    theatre.close()


def test_run_by_hand(home: Path) -> None:
    done = subprocess.run([home / "bin" / "qmail-send"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 111
    assert done.stderr == b"qmail-send: usage: qmail-start runs qmail-send, with its descriptors connected\n"

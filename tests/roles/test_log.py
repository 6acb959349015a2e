import contextlib
import json
import os
import re
import resource
import signal
import socket
import time
from pathlib import Path

import pytest
from tests.peers.processes import wait_until

from ekiden.roles import log as log_role
from ekiden.roles.log import Writer
from ekiden.runtime.log import Log
from ekiden.runtime.logfile import LogFile
from ekiden.runtime.logtarget import FileTarget, SystemTarget
from ekiden.runtime.syslog import Journal, Syslog
from ekiden.settings.schema import Settings

SYSLOG_LINE = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d indy2 qmail: (\d{10}\.\d{6}) (.*)")


@contextlib.contextmanager
def running(directory, kind=socket.SOCK_SEQPACKET, before=lambda: None, **settings):
    """The role in a child; gives the sink to write to and the child's process id."""
    reading, writing = socket.socketpair(socket.AF_UNIX, kind)
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            writing.close()
            before()
            log_role.serve(reading, Settings(me=b"indy2.nix.co.jj", **settings), directory, "indy2")
            status = 0
        finally:
            os._exit(status)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    reading.close()
    try:
        yield writing, child
    finally:
        with contextlib.suppress(OSError):
            writing.close()


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def has_open(pid, path):
    with contextlib.suppress(FileNotFoundError):
        return any(entry.readlink() == path for entry in Path(f"/proc/{pid}/fd").iterdir())
    return True  # A descriptor was closed meanwhile.


def texts(path):
    matches = [SYSLOG_LINE.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(matches)
    return [match.group(2) for match in matches]


def test_lines_have_the_form_of_syslog_files(tmp_path):
    with running(tmp_path) as (sink, child):
        Log("queue", sink).status(0, 10, 0, 20)
        Log("queue", sink).new_message(5)
        sink.close()
        assert ended(child) == 0
    assert texts(tmp_path / "ekiden.log") == ["status: local 0/10 remote 0/20", "new msg 5"]


def test_local_time_is_the_systems(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    with running(tmp_path, before=time.tzset) as (sink, child):
        Log("queue", sink).new_message(5)
        sink.close()
        assert ended(child) == 0
    line = (tmp_path / "ekiden.log").read_text()
    second = float(line.split()[5])
    assert line.startswith(time.strftime("%b %e %H:%M:%S ", time.gmtime(second + 9 * 3600)))


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_term_drains_what_is_waiting(tmp_path, kind):
    with running(tmp_path, kind) as (sink, child):
        os.kill(child, signal.SIGSTOP)
        sink.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 500:
                sink.send(b"%.6f new msg %d\n" % (time.time(), sent))
                sent += 1
        os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGCONT)
        assert ended(child) == 0
    assert sent > 5
    assert texts(tmp_path / "ekiden.log") == [f"new msg {number}" for number in range(sent)]


def test_rotation_and_reopening_under_way_lose_nothing(tmp_path):
    with running(tmp_path, logfilebytes=4096, logfilecount=100_000) as (sink, child):
        log = Log("queue", sink)
        for number in range(3000):
            log.new_message(number)
            if number % 500 == 250:
                os.kill(child, signal.SIGHUP if number % 1000 == 250 else signal.SIGUSR1)
        sink.close()
        assert ended(child) == 0
    files = sorted(tmp_path.glob("ekiden.log.*"), key=lambda name: -int(name.suffix[1:]))
    written = [text for path in (*files, tmp_path / "ekiden.log") for text in texts(path)]
    assert len(files) > 10
    assert written == [f"new msg {number}" for number in range(3000)]


def test_hup_opens_a_renamed_file_anew(tmp_path):
    with running(tmp_path) as (sink, child):
        log = Log("queue", sink)
        log.new_message(1)
        wait_until((tmp_path / "ekiden.log").exists, "the file is there")
        (tmp_path / "ekiden.log").rename(tmp_path / "old")
        os.kill(child, signal.SIGHUP)
        wait_until(lambda: not has_open(child, tmp_path / "old"), "the old file is closed")
        log.new_message(2)
        sink.close()
        assert ended(child) == 0
    assert texts(tmp_path / "old") == ["new msg 1"]
    assert texts(tmp_path / "ekiden.log") == ["new msg 2"]


def test_a_directory_that_comes_later_loses_nothing(tmp_path):
    with running(tmp_path / "log") as (sink, child):
        log = Log("queue", sink)
        log.new_message(1)
        log.new_message(2)
        time.sleep(0.05)
        (tmp_path / "log").mkdir()
        wait_until((tmp_path / "log" / "ekiden.log").exists, "the file is there")
        sink.close()
        assert ended(child) == 0
    assert texts(tmp_path / "log" / "ekiden.log") == ["new msg 1", "new msg 2"]


def test_a_role_that_cannot_write_ends_all_the_same(tmp_path):
    with running(tmp_path / "none") as (sink, child):
        Log("queue", sink).new_message(1)
        os.kill(child, signal.SIGTERM)
        assert ended(child) == 0


def test_a_full_disk_is_survived(tmp_path):
    def little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    with running(tmp_path, before=little_room) as (sink, child):
        log = Log("queue", sink)
        for number in range(100):
            log.new_message(number)
        path = tmp_path / "ekiden.log"
        wait_until(lambda: path.exists() and path.stat().st_size == 1000, "the disk is full")
        resource.prlimit(child, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sink.close()
        assert ended(child) == 0
    assert texts(path) == [f"new msg {number}" for number in range(100)]


class Broken:
    """A file whose device is full until told otherwise."""

    full = True

    def __init__(self):
        self.data = b""

    def form(self, lines):
        return lines

    def write(self, data):
        if self.full:
            raise OSError
        self.data += data
        return len(data)

    def reopen(self):
        pass


@pytest.mark.parametrize("json_format", [False, True])
def test_lost_lines_are_counted_and_told(monkeypatch, json_format):
    monkeypatch.setattr(log_role, "KEPT", 10_000)
    target = Broken()
    writer = Writer(target, json_format)
    for _ in range(20):
        writer.write([b"x" * 99 + b"\n" for _ in range(10)])
    assert len(writer.pending) == 10_000
    assert writer.unwritten == 200
    target.full = False
    writer.flush()
    assert writer.unwritten == 0
    lines = target.data.splitlines()
    assert len(lines) == 101
    if json_format:
        assert json.loads(lines[-1])["lost"] == 100
    else:
        assert lines[-1].endswith(b" warning: 100 lines of the log are lost")


def test_nothing_in_a_line_is_trusted(tmp_path):
    target = FileTarget(LogFile(tmp_path / "ekiden.log", 100_000, 2), "indy2")
    Writer(target).write([b"99999999999999.1 \x1b[2J\x00\x7f\r", b"9" * 50_000, b"\n"])
    lines = (tmp_path / "ekiden.log").read_bytes().splitlines()
    assert [line.split(b"qmail: ", 1)[1] for line in lines] == [
        b"99999999999999.1 ?[2J???",
        b"9" * 50_000,
        b"",
    ]


def test_json_is_written_bare(tmp_path):
    with running(tmp_path, logformat="json") as (sink, child):
        Log("smtpd", sink, "json").event("connect", "connect from x", address="x")
        sink.close()
        assert ended(child) == 0
    record = json.loads((tmp_path / "ekiden.log").read_text())
    assert record["role"] == "smtpd" and record["address"] == "x"


def test_stderr(tmp_path):
    def elsewhere():
        os.dup2(os.open(tmp_path / "stderr", os.O_WRONLY | os.O_CREAT, 0o600), 2)

    with running(Path("/nonexistent"), before=elsewhere, logtarget="stderr") as (sink, child):
        Log("queue", sink).new_message(7)
        sink.close()
        assert ended(child) == 0
    assert re.fullmatch(r"\d{10}\.\d{6} new msg 7\n", (tmp_path / "stderr").read_text())


@pytest.fixture
def daemon(tmp_path):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "daemon"))
    server.settimeout(60)
    yield server
    server.close()


def test_syslog_entries_have_splogger_priorities(tmp_path, daemon):
    stamp = b"%.6f " % time.time()
    lines = [stamp + b"new msg 1", stamp + b"warning: w", stamp + b"alert: a", b'{"time":1,"event":"alert"}']
    Writer(SystemTarget(Syslog(b"qmail", path=str(tmp_path / "daemon")))).write([b"\n".join(lines)])
    received = [daemon.recv(10_000) for _ in lines]
    assert [entry[:4] for entry in received] == [b"<22>", b"<20>", b"<17>", b"<17>"]
    assert [entry.split(b"qmail: ", 1)[1] for entry in received] == lines


def test_journal_entries_have_no_stamp(tmp_path, daemon):
    Writer(SystemTarget(Journal(b"qmail", path=str(tmp_path / "daemon")))).write([b"1795406193.000001 alert: a b\n"])
    assert daemon.recv(10_000).startswith(b"MESSAGE=alert: a b\nPRIORITY=1\n")


def test_syslog_that_is_down_gets_its_entries_later(tmp_path):
    writer = Writer(SystemTarget(Syslog(b"qmail", path=str(tmp_path / "later"))))
    writer.write([b"1795406193.000001 one\n1795406193.000001 two\n"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "later"))
        writer.flush()
        assert server.recv(1000).endswith(b"one")
        assert server.recv(1000).endswith(b"two")

import os
import re
import socket

import pytest

from ekiden.runtime.syslog import ALERT, INFO, WARNING, Journal, Syslog, fold, priority

WHEN = 1795406193.5


def listening(path, kind):
    server = socket.socket(socket.AF_UNIX, kind)
    server.bind(str(path))
    server.settimeout(60)
    if kind == socket.SOCK_STREAM:
        server.listen()
    return server


@pytest.mark.parametrize(
    ("text", "level"),
    [(b"alert: x", ALERT), (b"warning: x", WARNING), (b"status: alert:", INFO), (b"alert", INFO), (b"", INFO)],
)
def test_priority_is_told_by_the_front(text, level):
    assert priority(text) == level


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(0, []), (1, [1]), (799, [799]), (800, [799, 1]), (1599, [799, 799, 1])],
)
def test_long_lines_are_folded_as_splogger_does(length, pieces):
    entries = list(fold(b"17.000001", b"x" * length))
    assert [len(entry) - len(b"17.000001 ") for entry in entries] == pieces
    assert [entry[9:10] for entry in entries] == [b" ", b"+", b"+"][: len(pieces)]


def test_syslog_datagram(tmp_path):
    with listening(tmp_path / "log", socket.SOCK_DGRAM) as server:
        Syslog(b"qmail", path=str(tmp_path / "log")).send(ALERT, b"17.000001 alert: x", WHEN)
        assert re.fullmatch(rb"<17>Nov 2[234] \d\d:\d\d:33 qmail: 17\.000001 alert: x", server.recv(1000))


def test_syslog_stream(tmp_path):
    with listening(tmp_path / "log", socket.SOCK_STREAM) as server:
        syslog = Syslog(b"splogger", 3, path=str(tmp_path / "log"))
        syslog.send(INFO, b"one", WHEN)
        syslog.send(INFO, b"two", WHEN)
        connection, _ = server.accept()
        syslog.close()
        received = b""
        while data := connection.recv(1000):
            received += data
        connection.close()
        assert re.fullmatch(rb"<30>Nov .{11} splogger: one\0<30>Nov .{11} splogger: two\0", received)


def test_syslog_connects_again_when_the_daemon_is_back(tmp_path):
    path = tmp_path / "log"
    syslog = Syslog(b"qmail", path=str(path))
    with pytest.raises(FileNotFoundError):
        syslog.send(INFO, b"zero", WHEN)
    with listening(path, socket.SOCK_DGRAM) as server:
        syslog.send(INFO, b"one", WHEN)
        assert server.recv(1000).endswith(b"one")
    with pytest.raises(OSError):
        syslog.send(INFO, b"two", WHEN)
    os.unlink(path)
    with listening(path, socket.SOCK_DGRAM) as server:
        syslog.send(INFO, b"three", WHEN)
        assert server.recv(1000).endswith(b"three")


def test_a_daemon_that_does_not_read_is_an_error_soon(tmp_path):
    with listening(tmp_path / "log", socket.SOCK_DGRAM):
        syslog = Syslog(b"qmail", path=str(tmp_path / "log"))
        with pytest.raises(TimeoutError):
            for _ in range(10_000):
                syslog.send(INFO, b"x" * 1000, WHEN)


def test_journal_entry(tmp_path):
    with listening(tmp_path / "journal", socket.SOCK_DGRAM) as server:
        Journal(b"qmail", path=str(tmp_path / "journal")).send(WARNING, b"warning: x=y")
        fields = dict(line.split(b"=", 1) for line in server.recv(1000).splitlines())
    assert fields == {
        b"MESSAGE": b"warning: x=y",
        b"PRIORITY": b"4",
        b"SYSLOG_IDENTIFIER": b"qmail",
        b"SYSLOG_FACILITY": b"2",
        b"SYSLOG_PID": str(os.getpid()).encode(),
    }

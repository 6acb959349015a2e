import io
import os
import re
import socket
import subprocess
import sys

import pytest

from ekiden.programs import splogger
from ekiden.runtime.syslog import Syslog


class Recorded:
    """Stands for the syslog daemon's connection."""

    def __init__(self):
        self.entries = []

    def send(self, level, text, when):
        stamp, mark, rest = re.fullmatch(rb"(\d{10}\.\d{6})([ +])(.*)", text).groups()
        self.entries.append((level, stamp, mark, rest))


def entered(data, size):
    recorded = Recorded()
    lines = splogger.Lines(recorded)
    source = io.BytesIO(data)
    while piece := source.read(size):
        lines.feed(piece)
    lines.feed(b"\n")
    return recorded.entries


@pytest.mark.parametrize("size", [1, 7, 799, 800, 100_000])
def test_entries_do_not_depend_on_how_input_comes(size):
    long = b"warning: " + b"x" * 1700
    entries = entered(b"new msg 1\n\n\nalert: a\x00\xe9\tb\n" + long + b"\n" + b"y" * 799 + b"\nno newline", size)
    assert [(level, mark, text) for level, _stamp, mark, text in entries] == [
        (6, b" ", b"new msg 1"),
        (1, b" ", b"alert: a???b"),
        (4, b" ", long[:799]),
        (4, b"+", long[799:1598]),
        (4, b"+", long[1598:]),
        (6, b" ", b"y" * 799),
        (6, b" ", b"no newline"),
    ]
    assert len({stamp for level, stamp, _mark, _text in entries if level == 4}) == 1


def test_memory_is_bounded_whatever_comes():
    lines = splogger.Lines(Recorded())
    for _ in range(100):
        lines.feed(b"x" * 10_000)
        assert len(lines._rest) < 800


@pytest.mark.parametrize("argv", [["tag", "mail"], ["tag", "-1"], ["tag", "200"]])
def test_wrong_arguments(argv, capsys):
    assert splogger.main(argv, "/") == 100
    assert "usage" in capsys.readouterr().err


def run(tmp_path, monkeypatch, argv, data):
    """Run ``main`` in a child with ``data`` as its input; what the daemon received."""
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        monkeypatch.setattr(splogger, "Syslog", lambda tag, facility: Syslog(tag, facility, path))
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(reading, 0)
                code = splogger.main(argv, str(tmp_path))
            finally:
                os._exit(code)
        os.close(reading)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        server.setblocking(False)
        return server.recv(2000)


@pytest.mark.parametrize(
    ("argv", "head"),
    [
        ([], b"<22>splogger"),
        (["smtpd"], b"<22>smtpd"),
        (["smtpd", "3"], b"<30>smtpd"),
        (["smtpd", "3", "more"], b"<30>smtpd"),
    ],
)
def test_tag_and_facility(tmp_path, monkeypatch, argv, head):
    entry = run(tmp_path, monkeypatch, argv, b"hello\n")
    found = re.fullmatch(rb"(<\d+>)... .. ..:..:.. (\w+): \d+\.\d{6} hello", entry)
    assert found.group(1) + found.group(2) == head


def test_starts_without_what_it_does_not_need():
    code = "import ekiden.programs.splogger, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "uvloop", "msgspec", "click", "rich", "ssl", "hypothesis"} & set(loaded)

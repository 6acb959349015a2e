"""qmail-queue with its descriptors, while ekiden does not run and while it does."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port, wait_until
from tests.programs.conftest import Running, Site

from ekiden.queue.sqlite import SQLiteStore

ENVELOPE = b"Fs@x.example\0Ta@y.example\0\0"


def queue(home: str, message: bytes, envelope: bytes) -> int:
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(envelope)
    program = os.path.join(home, "bin", "qmail-queue")
    try:
        return subprocess.run([program], input=message, stdout=reading, timeout=60).returncode
    finally:
        os.close(reading)


def test_into_the_store(site: Site) -> None:
    assert queue(str(site.home), b"A: b\n\nx\n", ENVELOPE) == 0
    store = SQLiteStore(site.home / "queue")
    (row,) = store.messages(0, 10)
    content = store.content(row.id)
    store.close()
    assert content is not None
    assert re.fullmatch(
        rb"Received: \(qmail %d invoked by uid %d\); \d+ \w+ \d+ \d\d:\d\d:\d\d -0000\r\nA: b\r\n\r\nx\r\n"
        % (row.meta.origin.pid, os.getuid()),
        content,
    )
    assert (row.sender, row.meta.origin.uid) == (b"s@x.example", os.getuid())


@pytest.mark.parametrize(
    ("envelope", "code"),
    [(b"", 54), (ENVELOPE[:-1], 54), (b"X\0\0", 91), (b"F\0T" + b"x" * 1003 + b"\0\0", 11), (b"F\0\0", 0)],
)
def test_exit_codes(site: Site, envelope: bytes, code: int) -> None:
    assert queue(str(site.home), b"A: b\n", envelope) == code
    assert not (site.home / "queue" / "queue.sqlite").exists()


def test_without_a_queue(site: Site) -> None:
    (site.home / "queue").rmdir()
    assert queue(str(site.home), b"A: b\n", ENVELOPE) == 62


@pytest.mark.slow
def test_what_came_before_the_start_is_logged_as_new_once(home: Ekiden) -> None:
    home.routes(f":127.0.0.1:{free_port()}")
    assert queue(str(home.home), b"A: b\n\nx\n", ENVELOPE) == 0
    for _ in range(2):
        home.start()
        wait_until(lambda: "delivery 1: deferral" in home.log(), "it was tried")
        home.stop()
    log = home.log()
    assert log.count(" new msg 1\n") == 1 and log.count(" info msg 1: bytes ") == 1
    assert log.index(" info msg 1: ") < log.index(" starting delivery 1: msg 1 ")


@pytest.mark.slow
def test_into_a_running_ekiden(running: Running) -> None:
    messages = [b"Subject: small\n\nx\r\ny\n", b"Subject: large\n\n" + b"line \xff\n" * 3000]
    for message in messages:
        assert queue(str(running.home), message, b"Fs@x.example\0Ttell@ekiden.example\0\0") == 0
    found = [path.read_bytes().split(b" -0000\n", 1)[1] for path in running.arrived(2)]
    assert sorted(found) == sorted(messages)
    shown = rf"info msg \d+: bytes \d+ from <s@x\.example> qp \d+ uid {os.getuid()}\b"
    wait_until(lambda: len(re.findall(shown, running.log())) == 2, "both messages in the log")

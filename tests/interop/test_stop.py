"""A stop with a next hop that never says a word and clients in mid-transaction: it ends in time, nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.peers.dialogue import Dialogue, dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.processes import end, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

SECONDS = 15
MESSAGES = 5
CONTENT = b"Subject: t\r\n\r\nhello\r\n"


def under_way(home: Ekiden) -> bool:
    return home.log().count(" starting delivery ") == MESSAGES


def test_sessions_and_deliveries_share_the_time_for_a_stop(home: Ekiden, sink: Sink) -> None:
    """Were each to have it, the stop would take twice as long. What was under way is delivered by the next start."""
    home.control("shutdownseconds", str(SECONDS))
    with socket.create_server(("127.0.0.1", 0), backlog=50) as hole:
        home.routes(f":[127.0.0.1]:{hole.getsockname()[1]}")
        home.start()
        with dialogue(home.port) as talk:
            for number in range(MESSAGES):
                assert talk.message(CONTENT, "a@sender.example", f"b@{number}.example")[0] == "2"
        wait_until(lambda: under_way(home), "deliveries are under way")
        idle, *busy = [Dialogue(home.port, timeout=60) for _ in range(4)]
        for talk in busy:
            talk.say("EHLO client.example")
            assert talk.say("MAIL FROM:<a@sender.example>")[0] == "2"
        began = time.monotonic()
        home.command("stop", seconds=60)
        took = time.monotonic() - began
        for talk in (idle, *busy):
            assert talk.reply() == "421 4.3.2 shutting down, try again later"
            talk.connection.close()
        assert home.pids() == set()
        assert "ended (" not in home.log()
        assert took < 2 * SECONDS
    home.routes(f":{sink.route}")
    home.start()
    home.command("queue", "flush")
    wait_until(lambda: home.queue() == [], "all is delivered")
    received = sorted(message.recipients for message in sink.received())
    assert received == [(f"<b@{number}.example>",) for number in range(MESSAGES)]


def test_roles_that_hang_are_killed_in_time(home: Ekiden) -> None:
    """They share the time too: each has only a few seconds of its own to be late."""
    home.control("shutdownseconds", str(SECONDS))
    root = Path(__file__).parents[2]
    hanging = subprocess.Popen([sys.executable, "-m", "tests.interop.hanging", home.home], cwd=root)
    try:
        wait_until(lambda: (home.home / "run" / "roles").exists(), "every role hangs")
        began = time.monotonic()
        home.command("stop", seconds=120)
        assert time.monotonic() - began < SECONDS + 22
        assert home.pids() == set()
    finally:
        end(hanging, 20)


def test_halted_processes_end(home: Ekiden) -> None:
    """They hear nothing, not even that they are to end, until they are continued."""
    home.start()
    for pid in home.pids():
        os.kill(pid, signal.SIGSTOP)
    home.command("stop", seconds=40)
    wait_until(lambda: home.pids() == set(), "nobody is left")
    assert "ended (" not in home.log()

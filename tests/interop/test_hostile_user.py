"""Local users who mean no good at ``run/inject``: the queue role stays small, and others' mail goes in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import end, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")]

ATTACKS = {
    "many connections": (900, "each.send(b'\\0')"),
    "enormous frames": (50, "each.send(struct.pack('>I', 8_000_000) + b'x' * 65532)"),
    "answers not read": (50, "each.send(b'\\0\\0\\0\\3\\x92\\4\\1' * 1000)"),
    "descriptors": (20, "socket.send_fds(each, [b'\\0'], [null] * 100)"),
}
"""With how many connections an attacking process does what, until it is killed."""

HOSTILE = 4949
"""The attacker's uid, which nobody else has: the kernel counts descriptors under way by user, and lets none of a user
with too many send another. Roles that run as nobody could then hand over no delivery."""

_ATTACK = """
import os, socket, struct, sys
os.chdir(sys.argv[1])
os.setgid(HOSTILE)
os.setuid(HOSTILE)
null = os.open(os.devnull, os.O_RDONLY)
def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("run/inject")
    connection.setblocking(False)
    return connection
held = []
print("begun", flush=True)
while True:
    if len(held) < COUNT:
        held.append(connect())
    for number, each in enumerate(held[-50:], max(0, len(held) - 50)):
        try:
            ACTION
        except BlockingIOError:
            pass
        except OSError:
            held[number] = connect()
"""


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident(pid: int) -> int:
    """KiB of memory that are the process's own."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_user_costs_little(home: Ekiden, attack: str) -> None:
    home.control("injectperuser", "100")
    home.control("concurrencyremote", "0")
    home.start()
    (queue,) = (pid for pid, role in home.roles().items() if role == "queue")
    memory, files = resident(queue), descriptors(queue)
    count, action = ATTACKS[attack]
    program = _ATTACK.replace("COUNT", str(count)).replace("ACTION", action).replace("HOSTILE", str(HOSTILE))
    attacker = subprocess.Popen([sys.executable, "-c", program, home.home], stdout=subprocess.PIPE)
    try:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"begun\n"
        start = time.monotonic()
        sent = 0
        while sent < 10 or time.monotonic() - start < 1:
            inject(home, f"number {sent}")
            sent += 1
            # What 100 connections may have, a frame of the largest size, and the queue's own work.
            assert resident(queue) < memory + 40 * 1024
            assert descriptors(queue) <= files + 110
        assert attacker.poll() is None, "the attack went on"
    finally:
        end(attacker)
    assert [message["sender"] for message in home.queue()] == ["someone@ekiden.example"] * sent
    wait_until(lambda: descriptors(queue) <= files + 2, "what the attacker had is closed")
    assert queue in home.roles()


def inject(home: Ekiden, subject: str) -> None:
    """Hand in a message as root."""
    command = [home.home / "bin" / "qmail-inject", "-fsomeone@ekiden.example", "far@far.example"]
    done = subprocess.run(
        command, input=f"Subject: {subject}\n\nhello\n".encode(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr

"""What a role can do that somebody has taken over: a real daemon's real roles, turned hostile (``hostile.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import end, free_port, is_alive, process_tree, program, run, wait_until
from tests.peers.sinks import Sink
from tests.roles.hostile import POSSIBLE

from ekiden.runtime import landlock

pytestmark = pytest.mark.slow

REFUSED = {"EPERM", "EACCES", "ENOSYS"}

_MODULES = {"read modules", "read nothing"}

LEFT = {
    "queue": {"read queue", "write to the queue"},
    "smtpd": {"read rules", "routes", "unix"} | _MODULES,
    "remote": {"connect", "connect with what is there", "bind", "datagram", "routes", "unix"} | _MODULES,
    "log": {"write to the log"},
    "pop3d": {"read rules"} | _MODULES,
}
"""What each role may still do, as docs/security.md says."""

IN_VAIN = {"EISCONN", "EINVAL", "ENOENT"}
"""How an attempt may end that is allowed: the socket is bound and connected already, the root is another."""

ROOT = os.getuid() == 0
USERS = [NOBODY, 0] if ROOT else [os.getuid()]

Start = Callable[..., dict[str, Any]]


@pytest.fixture
def attack(home: Ekiden, sink: Sink, place: Path) -> Iterator[Start]:
    """Start the hostile daemon as a user: what each role told."""
    with ExitStack() as running:

        def start(uid: int, *options: str) -> dict[str, Any]:
            decoys, results = place / "decoys", place / "results"
            decoys.mkdir()
            for name in ("mail", "remove"):
                (decoys / name).write_text("secret\n")
                (decoys / name).chmod(0o666)
            decoys.chmod(0o777)
            (home.home / "queue" / "decoy").write_text("secret\n")
            home.control("listen", f"smtp 127.0.0.1:{home.port}", f"pop3 127.0.0.1:{free_port()}")
            home.routes(f":127.0.0.1:{sink.port}")
            if uid:
                for path in (home.home, *home.home.rglob("*")):
                    os.chown(path, uid, uid, follow_symlinks=False)
            arguments = [home.home, results, str(uid), str(sink.port), decoys, *options]
            command = ["timeout", "60", sys.executable, "-m", "tests.roles.hostile", *map(str, arguments)]
            root = Path(__file__).parents[2]
            with open(place / "output", "wb") as output:
                daemon = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            running.callback(end, daemon, 20)
            wait_until(lambda: has_told(results) or daemon.poll() is not None, 40, "every role has told")
            told = [json.loads(line) for line in results.read_text().splitlines()]
            assert daemon.poll() is None, (place / "output").read_text()
            return {each["role"]: each for each in told}

        yield start


def has_told(results: Path) -> bool:
    return results.exists() and len(results.read_text().splitlines()) >= len(LEFT)


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel has no Landlock, or one that knows no TCP")
@pytest.mark.parametrize("uid", USERS)
def test_an_intruder_finds_nothing(attack: Start, home: Ekiden, sink: Sink, uid: int) -> None:
    told = attack(uid)

    assert set(told) == set(LEFT)
    for role, each in told.items():
        assert bool(each["uid"]), f"{role} runs as root"
        possible = {name for name, result in each["tried"].items() if result not in REFUSED}
        beyond = {name: each["tried"][name] for name in possible - LEFT[role]}
        # Another root directory, where nothing of all that is.
        if role == "queue" and uid == 0:
            beyond = {name: result for name, result in beyond.items() if result != "ENOENT"}
        assert not beyond, role
        # Where the modules are, their owner may have locked everybody out.
        for name in LEFT[role] - {"read modules"}:
            assert each["tried"][name] in {"done"} | IN_VAIN, (role, name)
    # And yet they do their work.
    send(home)
    assert len(sink.wait_for(1)) == 1
    for pid in home.roles():
        assert is_alive(pid)


@pytest.mark.parametrize("uid", USERS[:1])
def test_the_attempts_would_succeed_without(attack: Start, uid: int) -> None:
    for role, each in attack(uid, "unfenced").items():
        assert set(each["tried"]) == set(POSSIBLE)
        # Another role has done it before.
        assert set(each["tried"].values()) <= {"done", "EEXIST"}, role


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel has no Landlock, or one that knows no TCP")
def test_whoever_listens_to_strangers_is_isolated(home: Ekiden) -> None:
    home.control("listen", f"smtp 127.0.0.1:{home.port}", f"pop3 127.0.0.1:{free_port()}")
    home.start()

    roles = home.roles()
    keeper = next(pid for pid, role in roles.items() if role == "pop3d")
    (door,) = process_tree({keeper}) - {keeper}
    wait_until(lambda: fences(door) == (True, True), 10, "who listens for POP3 is isolated")
    for pid, role in roles.items():
        wait_until(lambda pid=pid, role=role: fences(pid) == (role not in ("local", "pop3d"),) * 2, 10, role)
    assert "isolat" not in home.log()


def fences(pid: int) -> tuple[bool, bool]:
    """Whether a process has a filter, and whether it can gain no privileges."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return "Seccomp:\t2" in status, "NoNewPrivs:\t1" in status


def test_isolation_can_be_switched_off(home: Ekiden) -> None:
    home.control("isolation", "off")
    home.start()

    for pid, role in home.roles().items():
        assert "Seccomp:\t0\n" in Path(f"/proc/{pid}/status").read_text(), role
    assert "warning: isolation is switched off" in home.log()


def send(home: Ekiden) -> None:
    server = f"127.0.0.1:{home.port}"
    run([program("swaks"), "--server", server, "--from", "a@a.example", "--to", "b@b.example", "--helo", "c.example"])

"""What a role can do that somebody has taken over: a real daemon's real roles, turned hostile (``hostile.py``)."""

from __future__ import annotations

import json
import os
import poplib
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
from tests.roles import hostile
from tests.roles.hostile import POSSIBLE

from ekiden.runtime.fences import landlock

pytestmark = pytest.mark.slow

REFUSED = {"EPERM", "EACCES", "ENOSYS"}

_MODULES = {"read modules", "read nothing"}

_FENCES = {"seccomp", "landlock_create_ruleset"}

_FILES = {"read users", "read passwords", "read mail", "list files", "read queue", "read rules", "write a file"} | {
    *("read own memory", "read memory", "read environment", "read secrets"),
    *("overwrite mail", "write to control", "write to the log", "write to the queue", "truncate", "remove", "rename"),
    *("read mailbox", "write to mailbox", "move in mailbox", "read another mailbox", "write to another mailbox"),
    *("remove from another mailbox", "take another's mail", "leave for home", *_MODULES),
}

LEFT = {
    "queue": {"read queue", "write to the queue"},
    "smtpd": {"read rules", "read secrets", "routes", "unix", "pose as smtpd"} | _MODULES,
    "remote": {"connect", "connect with what is there", "bind", "datagram", "routes", "unix", "pose as remote"}
    | _MODULES,
    "log": {"write to the log"},
    "pop3d": {"read rules", "read secrets"} | _MODULES,
    "keeper": {"read rules", "read secrets", "read users", "read passwords", "unix", "fork"} | _MODULES,
    "local": {"read users", "read passwords", "unix", "pose as local"} | _MODULES,
    "forkserver": {*POSSIBLE, *hostile.ROOT},
    "supervisor": {*POSSIBLE, *hostile.ROOT},
    "pop3keeper": _FILES
    | {"link", "unix", "fork", "signal others", "signal all", "pidfd_open", "setresuid"}
    | _FENCES,
    "session": {"read mailbox", "write to mailbox", "move in mailbox"} | _MODULES,
    "delivery": {"read mailbox", "write to mailbox", "move in mailbox"} | _MODULES,
    "forwarding": {"unix"} | _MODULES,
    "programs": set(),
}
"""What each role may still do, as docs/security.md says."""

PERHAPS = {"read secrets", "read modules", "read own memory", "read memory", "read environment"}
"""Where the modules are, their owner may have locked everybody out; of a process's memory root may see more."""

IN_VAIN = {"EISCONN", "EINVAL", "ENOENT"}
"""How an attempt may end that is allowed: the socket is bound and connected already, the root is another, no process
has that number."""

RECIPIENTS = {"saburo": "./own/", "jiro": "&b@b.example", "hanako": "|true"}
"""Names of local users, and what is to be done with their mail: for "delivery", "forwarding" and "programs"."""

KEEPERS = {"keeper", "pop3keeper"}
"""Who may read secrets where ekiden is started by root, and is fenced."""

NOT_FENCED = {"forkserver", "supervisor"}

ROOT = os.getuid() == 0
STRANGER = 4242
"""A user who is nobody of ekiden's, not even where roles run as nobody because qmail's users are missing."""
USERS = [NOBODY, 0] if ROOT else [os.getuid()]

Start = Callable[..., dict[str, Any]]


@pytest.fixture
def attack(home: Ekiden, sink: Sink, place: Path) -> Iterator[Start]:
    """Start the hostile daemon as a user: what each role told."""
    with ExitStack() as running:

        def start(uid: int, *options: str) -> dict[str, Any]:
            decoys, results, port = place / "decoys", place / "results", free_port()
            lay_out(decoys, uid or STRANGER)
            (home.home / "queue" / "decoy").write_text("secret\n")
            home.control("listen", f"smtp 127.0.0.1:{home.port} auth=yes", f"pop3 127.0.0.1:{port}")
            home.control("pop3users", f"taro:{{PLAIN}}word:{uid or STRANGER}:{uid or STRANGER}:{decoys}:./own/")
            (home.home / "control" / "pop3users").chmod(0o600)
            write_users(home, decoys, uid or STRANGER)
            home.routes(f":127.0.0.1:{sink.port}")
            if uid:
                for path in (home.home, *home.home.rglob("*")):
                    os.chown(path, uid, uid, follow_symlinks=False)
            arguments = [home.home, results, str(uid), str(sink.port), decoys, *options]
            command = ["timeout", "100", sys.executable, "-m", "tests.roles.hostile", *map(str, arguments)]
            root = Path(__file__).parents[2]
            with open(place / "output", "wb") as output:
                daemon = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            running.callback(end, daemon, 20)
            of_users = len(RECIPIENTS) + 1
            wait_until(lambda: has_told(results, of_users) or daemon.poll() is not None, "every role has told")
            assert daemon.poll() is None, (place / "output").read_text()
            log_in(port)
            for recipient in RECIPIENTS:
                send(home, f"{recipient}@{home.fqdn}")
            wait_until(lambda: has_told(results) or daemon.poll() is not None, "the users' processes have told")
            assert daemon.poll() is None, (place / "output").read_text()
            return by_role(results)

        yield start


def lay_out(decoys: Path, user: int) -> None:
    """What a hostile role tries its hand at."""
    decoys.mkdir()
    for role in LEFT:
        (decoys / role).mkdir()
        for name in ("mail", "remove"):
            (decoys / role / name).write_text("secret\n")
            (decoys / role / name).chmod(0o666)
        (decoys / role).chmod(0o777)
    for maildir in ("own", "foreign"):
        for part in ("cur", "new", "tmp"):
            (decoys / maildir / part).mkdir(parents=True)
        for name in ("new/1", "cur/kept", *(f"{part}/{role}" for part in ("new", "cur") for role in LEFT)):
            (decoys / maildir / name).write_text("Subject: secret\n\n")
    for path in (decoys, *decoys.rglob("*")):
        os.chown(path, user, user if ROOT else -1)


def write_users(home: Ekiden, decoys: Path, user: int) -> None:
    """Each with a group of his own, because a user's mail is one process's work."""
    lines = []
    for group, (name, instruction) in enumerate(RECIPIENTS.items(), user):
        (decoys / f".qmail-{name}").write_text(f"{instruction}\n")
        lines.append(f"={name}:{name}:{user}:{group}:{decoys}:-:{name}:\n")
    (home.home / "users" / "assign").write_text("".join((*lines, ".\n")))
    home.command("qmail-newu")


def log_in(port: int) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=40)
    client.user("taro")
    client.pass_("word")
    assert client.stat()[0] >= 1
    client.quit()


def has_told(results: Path, missing: int = 0) -> bool:
    return len(by_role(results)) >= len(LEFT) - missing


def by_role(results: Path) -> dict[str, Any]:
    """What each role has told; one may be writing its line just now."""
    lines = results.read_text().splitlines(keepends=True) if results.exists() else []
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    return {each["role"]: each for each in told}


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel has no Landlock, or one that knows no TCP")
@pytest.mark.parametrize("uid", USERS)
def test_an_intruder_finds_nothing(attack: Start, home: Ekiden, sink: Sink, uid: int) -> None:
    told = attack(uid)

    assert set(told) == set(LEFT)
    for role, each in told.items():
        assert each["uid"] or role in {"pop3keeper"} | NOT_FENCED, f"{role} runs as root"
        possible = {name for name, result in each["tried"].items() if result not in REFUSED}
        beyond = {name: each["tried"][name] for name in possible - LEFT[role]}
        # Another root directory, where nothing of all that is.
        if role == "queue" and uid == 0:
            beyond = {name: result for name, result in beyond.items() if result != "ENOENT"}
        # The administrator's processes are the administrator; roles know each other by their numbers.
        if role == "forwarding" and uid:
            del beyond["command the queue"]
        if role == "programs" and uid:
            beyond = {name: result for name, result in beyond.items() if name.startswith("pose")}
        assert not beyond, role
        # Where all are one user, secrets in control/ are kept from those alone who may not read control/.
        if "read secrets" in LEFT[role] and role not in NOT_FENCED:
            assert each["tried"]["read secrets"] == ("done" if uid or role in KEEPERS else "EACCES"), role
        left = LEFT[role] - PERHAPS
        if uid:
            left -= {"read passwords"}
        if role == "local" and uid == 0:
            # The socket is root's, and this process is not any more.
            left -= {"pose as local"}
        if role in NOT_FENCED and uid:
            left = set(POSSIBLE)
        for name in left:
            assert each["tried"][name] in {"done"} | IN_VAIN, (role, name)
    # And yet they do their work, and the administrator, who may be the same user, commands the queue.
    send(home, "b@b.example")
    assert home.command("queue", "list").returncode == 0
    assert len(sink.wait_for(2)) == 2
    assert len([name for name in os.listdir(home.home.parent / "decoys" / "own" / "new") if ".M" in name]) == 1
    for pid in home.roles():
        assert is_alive(pid)


@pytest.mark.parametrize("uid", USERS[:1])
def test_the_attempts_would_succeed_without(attack: Start, uid: int) -> None:
    for role, each in attack(uid, "unfenced").items():
        assert set(each["tried"]) == set(POSSIBLE)
        assert set(each["tried"].values()) == {"done"}, role


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel has no Landlock, or one that knows no TCP")
def test_whoever_listens_to_strangers_is_isolated(home: Ekiden) -> None:
    home.control("listen", f"smtp 127.0.0.1:{home.port}", f"pop3 127.0.0.1:{free_port()}")
    home.start()

    roles = home.roles()
    keeper = next(pid for pid, role in roles.items() if role == "pop3d")
    wait_until(lambda: len(process_tree({keeper})) == 2, "the keeper has a process that listens")
    (door,) = process_tree({keeper}) - {keeper}
    wait_until(lambda: fences(door) == (True, True), "who listens for POP3 is isolated")
    for pid, role in roles.items():
        wait_until(lambda pid=pid, role=role: fences(pid) == (True, True), role)
    local = next(pid for pid, role in roles.items() if role == "local")
    (server,) = process_tree({local}) - {local}
    assert fences(server) == (False, False)
    assert "isolat" not in home.log()


def test_the_queue_and_the_log_have_no_way_out(home: Ekiden) -> None:
    """Through an open directory one gets to all above it, out of another root too, where there is no Landlock."""
    home.start()

    for pid, role in home.roles().items():
        if role in ("queue", "log"):
            opened = {path for path in map(Path.resolve, Path(f"/proc/{pid}/fd").iterdir()) if path.is_dir()}
            assert all(path.is_relative_to(home.home / role) for path in opened), opened


def fences(pid: int) -> tuple[bool, bool]:
    """Whether a process has a filter, and whether it can gain no privileges."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return "Seccomp:\t2" in status, "NoNewPrivs:\t1" in status


def test_isolation_can_be_switched_off(home: Ekiden) -> None:
    home.control("isolation", "off")
    home.start()

    for pid, role in home.roles().items():
        assert "Seccomp:\t0\n" in Path(f"/proc/{pid}/status").read_text(), role
    wait_until(lambda: "warning: isolation is switched off" in home.log(), "it is told")


def send(home: Ekiden, recipient: str) -> None:
    server = f"127.0.0.1:{home.port}"
    run([program("swaks"), "--server", server, "--from", "a@a.example", "--to", recipient, "--helo", "c.example"])

"""Root starts ekiden in a home of somebody else's, who means no good; and strangers at a home of root's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import program, run
from tests.peers.sinks import Sink

from ekiden.commands import running

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")]


@pytest.fixture
def foreign(home: Ekiden, sink: Sink) -> Ekiden:
    home.routes(f":{sink.route}")
    for path in (home.home, *home.home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return home


@pytest.fixture
def secret(place: Path) -> Path:
    """What only root may read and write."""
    path = place / "secret"
    path.write_text("rootsonly\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("name", "why"), [("run/lock", "Too many levels of symbolic links"), ("run/roles.new", "Permission denied")]
)
def test_a_link_leads_root_nowhere(foreign: Ekiden, secret: Path, name: str, why: str) -> None:
    (foreign.home / "run").mkdir(exist_ok=True)
    os.chown(foreign.home / "run", NOBODY, NOBODY)
    (foreign.home / name).unlink(missing_ok=True)
    (foreign.home / name).symlink_to(secret)

    finished = foreign.command("start", check=False)

    assert finished.returncode == 1
    assert why in finished.stdout
    assert secret.read_text() == "rootsonly\n"


def test_a_link_tells_nothing_of_what_root_may_read(foreign: Ekiden, secret: Path) -> None:
    (foreign.home / "control" / "concurrencyremote").symlink_to(secret)

    finished = foreign.command("start", check=False)

    assert "rootsonly" not in finished.stdout + foreign.log()
    assert finished.returncode == 1


def test_a_foreign_home_works_and_may_listen_where_root_may(foreign: Ekiden, sink: Sink) -> None:
    port = next(port for port in range(700, 1000) if is_free(port))
    foreign.control("listen", f"smtp 127.0.0.1:{foreign.port}", f"smtp 127.0.0.1:{port}")
    foreign.start()
    foreign.reload()
    for each in (foreign.port, port):
        options = ["--from", "a@a.example", "--to", "b@b.example", "--helo", "c.example"]
        run([program("swaks"), "--server", f"127.0.0.1:{each}", *options])

    assert len(sink.wait_for(2)) == 2
    for pid in foreign.roles():
        uids = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:"))
        assert uids.split()[1:] == [str(NOBODY)] * 4
    made = (path for name in ("run", "queue", "log") for path in (foreign.home / name).rglob("*"))
    assert {path.stat().st_uid for path in made} == {NOBODY}


def test_a_home_that_only_root_may_enter_is_served_by_others(home: Ekiden, sink: Sink) -> None:
    home.routes(f":{sink.route}")
    home.control("tcp.smtp", "127.0.0.1:allow")
    home.control("morercpthosts", "b.example")
    home.command("qmail-newmrh")
    home.home.chmod(0o700)

    home.start()

    options = ["--from", "a@a.example", "--to", "b@b.example", "--helo", "c.example"]
    run([program("swaks"), "--server", f"127.0.0.1:{home.port}", *options])
    assert len(sink.wait_for(1)) == 1


def test_a_stranger_cannot_hold_the_lock(home: Ekiden) -> None:
    home.start()
    lock = home.home / "run" / "lock"
    assert lock.stat().st_mode & 0o777 == 0o600
    home.stop()
    # As it was left by versions before.
    lock.chmod(0o644)
    home.start()
    assert lock.stat().st_mode & 0o777 == 0o600


def test_a_stranger_sees_which_process_runs(home: Ekiden) -> None:
    home.start()
    # What it imports late is here before the child becomes a user who may not be able to read our modules.
    running.supervisor_of(home.home)
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            os.setuid(NOBODY)
            os.write(writing, b"%d" % running.supervisor_of(home.home))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading, "rb") as pipe:
        assert int(pipe.read()) == home.supervisor()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

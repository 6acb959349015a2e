"""A home whose whole device is full: what dies then is started again, and mail flows as soon as there is room."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from tests.peers.accounting import Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.processes import is_alive, kill, wait_until
from tests.peers.sinks import Sink

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]


def roles_of(ekiden: Ekiden) -> set[str]:
    """The roles that run, whatever run/roles says."""
    names = set()
    for pid in ekiden.pids():
        with suppress(OSError):  # Those that are started again in vain end while we look.
            names.add(Path(f"/proc/{pid}/comm").read_text().strip())
    return {name.removeprefix("ekiden-") for name in names}


def test_roles_that_die_on_a_full_device_come_back(small: Ekiden, sink: Sink) -> None:
    """Found by the soak: the supervisor ended when it could not write run/roles, and ekiden with it."""
    small.routes(f":{sink.route}")
    small.start()
    before = roles_of(small)
    ballast = small.home / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 16))
    killed = [pid for pid, role in small.roles().items() if role in {"queue", "smtpd", "local"}]
    for pid in killed:
        kill(pid)
    wait_until(lambda: not any(is_alive(pid) for pid in killed), "they are gone")
    wait_until(lambda: roles_of(small) == before, "all roles run again")
    ballast.unlink()
    wait_until(lambda: not set(killed) & small.roles().keys(), "run/roles is written again")
    ledger = Ledger()
    LoadClient(small.port, ledger, sessions=2).send_until_acknowledged(15)
    assert drain(small, 60) == 0
    assert account(ledger, sink)


def test_a_full_device_keeps_nobody_from_starting(small: Ekiden, sink: Sink) -> None:
    """Found by the soak: the store wrote when it was opened, before its reserve could be given up."""
    small.routes(f":{sink.route}")
    sink.stop()
    small.start()
    ledger = Ledger()
    LoadClient(small.port, ledger, sessions=2, limit=20).run()
    small.kill_all()
    ballast = small.home / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    small.start()
    sink.start()
    assert drain(small, 60) == 0, small.log()[-3000:]
    assert account(ledger, sink)
    ballast.unlink()

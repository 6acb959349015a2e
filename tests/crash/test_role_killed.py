"""kill -9 of a role that runs, in the place of each call that it makes for one message: nothing is lost.

One point of each size and role; ``--seed`` chooses others, ``--every-point`` tries all.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash import tracing
from tests.peers.accounting import Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.processes import process_tree, wait_until
from tests.peers.sinks import Sink

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]

ROLES = ("smtpd", "queue", "remote", "local")
SIZES = {"small": 2000, "large": 300_000}
SAMPLE = 1
RECIPIENTS = {"local": "inbox@ekiden.example"}
OTHERS = "a@sink.example b@sink.example"

KILLED = "killed by SIGKILL"
HAPPENS = 10.0
"""Seconds within which the role comes to a call that it made before."""
ATTEMPTS = 3
AFTERWARDS = 0.5
"""Seconds in which results are reported and recorded."""


class Trial:
    """A home with one process of each role, and the books of all that is sent through it."""

    def __init__(self, home: Ekiden, role: str, arrived: Callable[[], int]) -> None:
        self._home = home
        self._role = role
        self._arrived = arrived
        self.ledger = Ledger()

    def pids(self) -> list[int]:
        """The role's processes: what it forks for a delivery is part of it."""
        wait_until(lambda: self._role in self._home.roles().values(), f"{self._role} is there")
        return sorted(process_tree(pid for pid, name in self._home.roles().items() if name == self._role))

    def whole(self, size: int, log: Path) -> list[tracing.Point]:
        """Let a message pass; the calls that the role makes for it."""
        for _ in range(ATTEMPTS):
            if self._passes(size, log):
                return tracing.points(list(tracing.read(log)))
            # It was refused or deferred: the role had just been started again.
            assert drain(self._home, 60) == 0, self._home.log()[-3000:]
        raise AssertionError(f"no message passes at its first attempt\n{self._home.log()[-3000:]}")

    def _passes(self, size: int, log: Path) -> bool:
        before = self._arrived()
        with tracing.attached(self.pids(), log), contextlib.suppress(AssertionError):
            self._client(size).run()
            wait_until(lambda: self._arrived() > before, "the message arrives")
            time.sleep(AFTERWARDS)
        return self._arrived() > before

    def killed_at(self, point: tracing.Point, size: int, log: Path) -> bool:
        """Let a message come, and kill the role at that call; whether it came there."""
        call, number = point
        with tracing.attached(self.pids(), log, "-e", f"inject={call}:signal=KILL:when={number}"):
            with self._client(size).running(until_done=True):
                pass
            with contextlib.suppress(AssertionError):
                wait_until(lambda: KILLED in log.read_text("ascii", "replace"), "the role is killed", seconds=HAPPENS)
        assert drain(self._home, 60) == 0, f"{self._role} killed at {point}\n{self._home.log()[-3000:]}"
        return KILLED in log.read_text("ascii", "replace")

    def _client(self, size: int) -> LoadClient:
        recipients = [RECIPIENTS.get(self._role, OTHERS)]
        first = len(self.ledger.sent)
        return LoadClient(self._home.port, self.ledger, recipients, 1, 1, 1, lambda _number: size, first=first)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_killed_at_every_call_loses_nothing(
    home: Ekiden, sink: Sink, tmp_path: Path, role: str, pytestconfig: pytest.Config
) -> None:
    home.routes(f":{sink.route}")
    for name, value in (("reuseseconds", "0"), ("smtpdprocesses", "1"), ("remoteprocesses", "1")):
        home.control(name, value)
    inbox = home.make_inbox("inbox")
    home.start()
    trial = Trial(home, role, lambda: len(sink.received()) + len(list((inbox / "new").iterdir())))
    seed = pytestconfig.getoption("--seed") or 0
    tried, killed = 0, 0
    for name, size in SIZES.items():
        points = trial.whole(size, tmp_path / name)
        assert points, f"{role} does nothing"
        if not pytestconfig.getoption("--every-point"):
            points = random.Random(seed).sample(points, SAMPLE)
        tried += len(points)
        killed += sum(trial.killed_at(point, size, tmp_path / f"{name}-killed") for point in points)
    assert drain(home, 60) == 0, home.log()[-3000:]
    books = account(trial.ledger, sink, inbox)
    acknowledged = f"{len(trial.ledger.acknowledged)} of {len(trial.ledger.sent)} acknowledged"
    print(f"{role} with seed {seed}: killed at {killed} of {tried} calls, {acknowledged}, {books}")
    assert books, f"{role} with seed {seed}: {books}"
    assert killed, f"{role} with seed {seed}: never killed"
    assert "Traceback" not in home.log()
    home.stop()
    home.start()
    assert not list((home.home / "queue" / "spool").iterdir())
    assert home.command("audit", check=False).returncode == 0

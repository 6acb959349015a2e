"""What goes wrong on purpose: random, and the same again with the same seed."""

from __future__ import annotations

import random
import time

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import kill, wait_until


class Nemesis:
    """Kills, seeded: mostly one process of a role taken at random, now and then the supervisor, or everything."""

    def __init__(self, ekiden: Ekiden, seed: int) -> None:
        self._ekiden = ekiden
        self._seed = seed
        self._random = random.Random()
        self.history: list[str] = []

    def strike(self) -> None:
        """Wait a moment, kill something, and see to it that ekiden runs again."""
        # What is there to be killed depends on the moment; the next choices must not depend on that.
        self._random.seed(f"{self._seed} {len(self.history)}")
        time.sleep(self._random.uniform(0.02, 0.5))
        kind = self._random.choices(["role", "supervisor", "all"], [8, 1, 1])[0]
        if kind == "role":
            self._kill_role()
        else:
            self._kill_and_start(kind)

    def _kill_role(self) -> None:
        # What died often is started later and later; there may be nobody to kill for a while.
        wait_until(lambda: bool(self._ekiden.roles()), "some role is there")
        processes = self._ekiden.roles()
        role = self._random.choice(sorted(set(processes.values())))
        victim = self._random.choice(sorted(pid for pid, name in processes.items() if name == role))
        self.history.append(role)
        kill(victim)

    def _kill_and_start(self, kind: str) -> None:
        self.history.append(kind)
        if kind == "all":
            self._ekiden.kill_all()
        else:
            kill(self._ekiden.supervisor())
        # Roles that outlive their supervisor for a moment still hold the listeners.
        wait_until(self._ekiden.starts_again, "ekiden starts again", step=0.1)


def seed_of(config: pytest.Config) -> int:
    """The seed asked for, or a new one."""
    seed: int | None = config.getoption("--seed")
    return random.SystemRandom().randrange(1_000_000) if seed is None else seed

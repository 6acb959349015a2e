"""What a role inherits from the supervisor: nothing that it could tell the supervisor something by, unasked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port

pytestmark = pytest.mark.slow


def pipes(pid: int) -> set[str]:
    """The pipes that a process can write to, by inode."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        flags = int(Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0], 8)
        if target.startswith("pipe:") and flags & os.O_ACCMODE != os.O_RDONLY:
            found.add(target)
    return found


def test_no_role_can_wake_the_supervisor(home: Ekiden) -> None:
    home.control("listen", f"smtp 127.0.0.1:{home.port}", f"pop3 127.0.0.1:{free_port()}")
    home.start()
    its_own = pipes(home.supervisor())
    assert its_own
    roles = home.pids() - {home.supervisor()}
    assert len(roles) > 6
    assert {pid: pipes(pid) & its_own for pid in roles} == {pid: set() for pid in roles}

"""Being qmailp: whoever looks for users goes everywhere, as root does, and can change nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.runtime.fences.capabilities import become_finder
from ekiden.runtime.privilege import Identity

ROOT = os.geteuid() == 0
FINDER = Identity(4242, 4343)


def in_a_child(work: Callable[[], None]) -> None:
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_finder_sees_all_and_changes_nothing(place: Path) -> None:
    locked = place / "locked"
    (locked / "home").mkdir(parents=True)
    (locked / "file").write_text("content")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "socket"))
        listening.listen()
        (place / "socket").chmod(0o600)
        locked.chmod(0o700)

        def work() -> None:
            become_finder(FINDER)
            assert os.getresuid() == (4242,) * 3 and os.getresgid() == (4343,) * 3 and os.getgroups() == []
            assert (locked / "home").stat().st_uid == 0
            assert (locked / "file").read_text() == "content"
            for attempt in (
                lambda: (locked / "file").write_text("other"),
                lambda: (locked / "file").unlink(),
                lambda: (locked / "other").touch(),
                lambda: os.chown(locked / "file", 4242, 4343),
                lambda: os.setuid(0),
                lambda: os.setgid(0),
                lambda: os.kill(os.getppid(), 0),
                lambda: socket.socket(socket.AF_UNIX).connect(str(place / "socket")),
            ):
                with pytest.raises(PermissionError):
                    attempt()

        in_a_child(work)


def test_without_root_nothing_changes() -> None:
    def work() -> None:
        if ROOT:
            os.setresuid(4242, 4242, 4242)
        before = os.getresuid()
        become_finder(FINDER)
        become_finder(None)
        assert os.getresuid() == before

    in_a_child(work)

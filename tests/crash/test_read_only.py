"""A home on an ext4 that gives up writing, as it does after an error: mail is refused, and what was accepted is there
when the file system has been mended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.accounting import Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.processes import run, wait_until
from tests.peers.sinks import Sink

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]

SIZES = (2000, 300_000)


class Device:
    """An ekiden whose home is an ext4 of its own."""

    def __init__(self, place: Path) -> None:
        self._image = place / "image"
        with open(self._image, "wb") as file:
            file.truncate(96 << 20)
        run(["mkfs.ext4", "-q", "-F", "-E", "root_owner=0:0", self._image])
        self.ekiden = Ekiden(place)
        self.ekiden.home.mkdir()

    def mount(self) -> bool:
        return (
            run(["mount", "-o", "loop,errors=remount-ro", self._image, self.ekiden.home], check=False).returncode == 0
        )

    def break_down(self) -> None:
        """From now on nothing can be written, whatever is open."""
        run(["mount", "-o", "remount,abort", self.ekiden.home], check=False)

    def mend(self) -> None:
        """Unmount, check, and mount again; as another device: others' mount namespaces may keep the old one."""
        # The threads of a killed process let go of their files a little after it.
        wait_until(lambda: run(["umount", self.ekiden.home], check=False).returncode == 0, "unmounted")
        self._image = shutil.copy(self._image, self._image.with_name("mended"))
        # 1: errors were corrected.
        assert run(["fsck.ext4", "-p", self._image], check=False).returncode in (0, 1)
        assert self.mount()

    def unmount(self) -> None:
        run(["umount", "-l", self.ekiden.home], check=False)


@pytest.fixture
def device(place: Path) -> Iterator[Device]:
    made = Device(place)
    if not made.mount():
        pytest.skip("there is no loop device")
    try:
        made.ekiden.configure()
        yield made
    finally:
        made.ekiden.kill_all()
        made.unmount()


def send(ekiden: Ekiden, ledger: Ledger, first: int, count: int) -> None:
    """So many messages, each tried once."""
    LoadClient(
        ekiden.port, ledger, sessions=2, limit=count, first=first, size=lambda number: SIZES[number % len(SIZES)]
    ).run()


def test_what_was_accepted_outlives_a_file_system_that_gives_up(device: Device, sink: Sink) -> None:
    ekiden, ledger = device.ekiden, Ledger()
    ekiden.routes(f":{sink.route}")
    sink.stop()
    # What the test has configured: ekiden syncs what is ekiden's.
    run(["sync", "-f", ekiden.home])
    ekiden.start()
    send(ekiden, ledger, 0, 10)
    accepted = set(ledger.acknowledged)
    assert len(accepted) == 10
    device.break_down()
    send(ekiden, ledger, 100, 2)
    assert ledger.acknowledged == accepted, "acknowledged what cannot be on disk"
    assert ledger.refused + ledger.broken == 2
    ekiden.kill_all()
    device.mend()
    sink.start()
    ekiden.start()
    assert drain(ekiden, 60) == 0, ekiden.log()[-3000:]
    assert account(ledger, sink)
    assert ekiden.command("audit", check=False).returncode == 0

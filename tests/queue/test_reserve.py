"""The reserve where no file can be made for it, though statvfs says that there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.queue.reserve import Reserve

LOG_SIZE = 100_000


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A device of 64 MiB that has place for 40 files."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=40", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_device_with_room_and_no_inode_is_full(few_inodes: Path) -> None:
    """As is one where a quota is used up."""
    reserve = Reserve(few_inodes, LOG_SIZE)
    assert reserve.release()
    with pytest.raises(OSError, match="No space"):
        for number in range(40):
            (few_inodes / f"other-{number}").touch()
    assert not reserve.restore()
    assert not Reserve(few_inodes, LOG_SIZE).release()
    (few_inodes / "other-0").unlink()
    assert reserve.restore()

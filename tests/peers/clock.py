"""A clock of the test's own for real processes: those started with ``environment`` see the time that it is set to.

Only the time of day is set; timers go on by the clock that counts from the machine's start, as in reality.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
from pathlib import Path

from tests.peers.processes import program

SOURCE = Path(__file__).with_suffix(".c")


class Clock:
    """Kept in a file in ``directory``, which must be open to the processes' users."""

    def __init__(self, directory: Path) -> None:
        library = directory / "clock.so"
        subprocess.run([program("gcc"), "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        path = directory / "clock"
        path.write_bytes(bytes(8))
        path.chmod(0o644)
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "TEST_CLOCK": str(path)}

    def set(self, ahead: float) -> None:
        """Be so many seconds ahead of the machine's clock, or behind it."""
        self._page[:] = struct.pack("=q", round(ahead))

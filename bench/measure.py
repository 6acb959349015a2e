"""What a mail system's processes cost: processor time, memory, and when they have come to rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_QUIET = 0.03
_LOOK = 0.3


def cpu_seconds(pids: set[int]) -> dict[str, float]:
    """Processor time by the processes' names, with that of children that they have already buried, in seconds.

    Postfix's processes end after a hundred connections; what they used is then in their parent's account.
    """
    used: dict[str, float] = {}
    for pid in pids:
        try:
            head, _parenthesis, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except OSError:
            continue
        name = head.partition("(")[2]
        used[name] = used.get(name, 0.0) + sum(map(int, rest.split()[11:15])) / _TICK
    return used


def pss_bytes(pids: set[int]) -> int:
    """Proportional set size of these processes together, in octets: shared pages are counted once."""
    return _octets(pids, "Pss:")


def anonymous_bytes(pids: set[int]) -> int:
    """The same without pages of files, of which a process's share falls and rises with the others that map them."""
    return _octets(pids, "Pss_Anon:")


def _octets(pids: set[int], name: str) -> int:
    kibibytes = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kibibytes += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith(name)), 0)
    return kibibytes * 1024


def settle(pids: Callable[[], set[int]], seconds: float = 120) -> None:
    """Return once the processes have used almost no time for a second; TimeoutError after ``seconds``."""
    deadline = time.monotonic() + seconds
    before = sum(cpu_seconds(pids()).values())
    while time.monotonic() < deadline:
        time.sleep(1)
        now = sum(cpu_seconds(pids()).values())
        if abs(now - before) <= _QUIET:
            return
        before = now
    raise TimeoutError(f"not at rest within {seconds:g} seconds")


class PeakMemory:
    """While entered and when that ends, samples the processes' memory; ``bytes`` is the most seen.

    Looking costs the kernel time for every process, so that no more than a hundredth of the time goes into it.
    """

    def __init__(self, pids: Callable[[], set[int]]) -> None:
        self.bytes = 0
        self._pids = pids
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._look()

    def _sample(self) -> None:
        pause = _LOOK
        while not self._ending.wait(pause):
            start = time.perf_counter()
            self._look()
            pause = max(_LOOK, 100 * (time.perf_counter() - start))

    def _look(self) -> None:
        self.bytes = max(self.bytes, pss_bytes(self._pids()))


def fsync_milliseconds(directory: Path, count: int = 100) -> float:
    """How long a 4 KiB append and its fdatasync take here, the median of ``count``, in milliseconds."""
    path = directory / "fsync-probe"
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            start = time.perf_counter()
            os.write(descriptor, b"\0" * 4096)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(taken)[count // 2] * 1000

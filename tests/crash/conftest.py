from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import run

DEVICE = "256m"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The soak first: it may last as long as all others together. No limit of time for what is asked to try more."""
    items.sort(key=lambda item: item.path.name != "test_soak.py")
    if config.getoption("--every-point") or config.getoption("--states") > 1:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.timeout(0))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory: what a kill leaves is the same there, and syncs cost nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def small(place: Path) -> Iterator[Ekiden]:
    """A configured ekiden on a small device."""
    ekiden = Ekiden(place)
    ekiden.home.mkdir()
    mounted = run(["mount", "-t", "tmpfs", "-o", f"size={DEVICE},mode=755", "tmpfs", ekiden.home], check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stdout.strip()}")
    try:
        ekiden.configure()
        yield ekiden
    finally:
        ekiden.stop()
        run(["umount", "-l", ekiden.home])

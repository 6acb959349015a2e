"""The machine that figures belong to, described without its names and paths."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path

from tests.peers.processes import short_directory

from bench.measure import fsync_milliseconds


def describe(versions: list[str]) -> list[str]:
    """One line per fact; ``versions`` are the contenders'."""
    with short_directory("bench") as place:
        fsync = fsync_milliseconds(place)
        file_system = _file_system(place)
    return [
        f"{os.cpu_count()} processors ({_processor()}), {_memory_gibibytes():.0f} GiB of memory",
        f"Linux {platform.release()}, {_distribution()}; spools on {file_system}, "
        f"4 KiB append with fdatasync {fsync:.2f} ms",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        ", ".join(versions),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gibibytes() -> float:
    first = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(first.split()[1]) / 1024**2


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"


def _file_system(path: Path) -> str:
    """The type of the file system that holds ``path``: the mount point that is the longest prefix."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        mount, type_ = line.split()[1:3]
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, type_
    return kind

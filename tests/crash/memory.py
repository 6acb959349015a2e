"""Processes with little address space, so that memory ends at any place in their work."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.peers.processes import process_tree

_FRAME = re.compile(rb'^ *File "([^"]+)", line', re.MULTILINE)

KIB, MIB = 1 << 10, 1 << 20
ENOUGH = 3
"""So many successes in a row, and there is enough: what is asked for in pieces of 1 MiB may fit, and then not."""


def limited(
    command: Sequence[str | Path], octets: int, data: bytes, envelope: bytes | None, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that has so many octets of address space, ``envelope`` on descriptor 1 if there is one."""
    held = os.memfd_create("envelope")
    os.write(held, envelope or b"")
    os.lseek(held, 0, os.SEEK_SET)
    message = os.memfd_create("message")
    os.write(message, data)
    os.lseek(message, 0, os.SEEK_SET)
    try:
        return subprocess.run(
            command,
            stdin=message,
            stdout=subprocess.PIPE if envelope is None else held,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (octets, octets)),
            env=os.environ | environment,
            timeout=60,
            check=False,
        )
    finally:
        os.close(held)
        os.close(message)


def least() -> int:
    """About how much an interpreter needs to start, in octets."""
    low, high = 1, 512
    while high - low > 1:
        middle = (low + high) // 2
        started = limited([sys.executable, "-c", ""], middle * MIB, b"", None, {}).returncode == 0
        low, high = (low, middle) if started else (middle, high)
    return low * MIB


def is_interpreters(said: bytes) -> bool:
    """Whether the interpreter could not even start a program of ours, and says so in its own way."""
    if b"Fatal Python error" in said or said.strip() == b"MemoryError":
        return True
    frames = _FRAME.findall(said)
    return bool(frames) and not any(b"/ekiden/" in frame or b"/bin/" in frame for frame in frames)


def limit_role(home_processes: dict[int, str], role: str, more: int | None) -> list[int]:
    """Let each process of a role have ``more`` octets than it has now; None for no limit any more. Who they are."""
    found = sorted(process_tree(pid for pid, name in home_processes.items() if name == role))
    for pid in found:
        try:
            status = dict(_fields(Path(f"/proc/{pid}/status")))
        except OSError:
            continue
        most = "unlimited" if more is None else str(int(status["VmSize"].split()[0]) * KIB + more)
        # As its own user: root may lack the right to limit others' processes.
        subprocess.run(
            ["prlimit", f"--as={most}:unlimited", "--pid", str(pid)],
            user=int(status["Uid"].split()[0]),
            group=int(status["Gid"].split()[0]),
            extra_groups=[],
            capture_output=True,
            check=more is not None,
        )
    return found


def _fields(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        yield name, value.strip()

"""A machine that has never seen qmail: a mount namespace with its own /etc, where users can be added. Needs root.

A directory ``var`` in its place is its /var.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.peers import processes
from tests.peers.processes import Unavailable, end

_SET_UP = """
set -e
mount --bind etc /etc
if [ -d var ]; then mount --bind var /var; fi
echo ready
exec sleep 600
"""

QMAILS = {"qmail", "nofiles", "alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails"}


class Fresh:
    """``run`` runs programs in it; ``stop`` ends it."""

    def __init__(self, place: Path) -> None:
        if os.geteuid() != 0:
            raise Unavailable("a machine with its own /etc needs root")
        self.place = place
        shutil.copytree("/etc", place / "etc", symlinks=True, ignore_dangling_symlinks=True)
        for name in ("passwd", "group", "shadow", "gshadow"):
            self._forget(place / "etc" / name)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SET_UP], cwd=place, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self._holder.wait()
            raise Unavailable("this root may not make a mount namespace")

    @staticmethod
    def _forget(path: Path) -> None:
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if line.split(":")[0] not in QMAILS))

    def names(self, file: str) -> dict[str, list[str]]:
        """Each account of etc/passwd or etc/group with its fields."""
        rows = (line.split(":") for line in (self.place / "etc" / file).read_text().splitlines())
        return {row[0]: row for row in rows}

    def run(self, *argv: str | Path, data: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        inside = ["nsenter", "--mount", f"--target={self._holder.pid}", *argv]
        return subprocess.run(inside, input=data, capture_output=True, text=True, timeout=60)

    def script(self, text: str, set_up: str = "", cwd: Path | None = None) -> None:
        """Run a shell script that stops at the first failure, on a network of its own; what it leaves running ends.

        ``set_up`` is run in front of it. AssertionError with all that was printed if it fails.
        """
        alone = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
        inside = ("nsenter", "--mount", f"--target={self._holder.pid}", f"--wdns={cwd or self.place}")
        processes.run([*inside, *alone, "sh", "-euc", f"ip link set lo up\n{set_up}\n{text}"], 100)

    def stop(self) -> None:
        end(self._holder)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

"""A machine with qmail's users, as the guide's reader has it: a mount namespace with its own passwd and /dev/log.

It is on the network that it is made in; a file ``resolv.conf`` in its place is its resolv.conf. Needs root. The
home is complete and root's; roles really change to their users.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from tests.peers.ekiden import let_everyone_run
from tests.peers.processes import Unavailable, end, is_alive, kill, process_tree, wait_until

from ekiden.installation.scripts import write_bin
from ekiden.settings.first import configure, make_home

GROUPS = {"qmail": 2107, "nofiles": 2108, "jiro": 4100}
USERS = {
    "alias": (7790, 2108),
    "qmaild": (7791, 2108),
    "qmaill": (7792, 2108),
    "qmailp": (7793, 2108),
    "qmailq": (7794, 2107),
    "qmailr": (7795, 2107),
    "qmails": (7796, 2107),
    "jiro": (4100, 4100),
}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

SET_UP = """
set -e
mount --bind passwd /etc/passwd
mount --bind group /etc/group
if [ -e resolv.conf ]; then mount --bind resolv.conf /etc/resolv.conf; fi
for device in {devices}; do mount --bind "/dev/$device" "dev/$device"; done
mount --rbind dev /dev
echo ready
exec sleep 600
"""


class Machine:
    """``run`` and ``start`` run programs in it; ``stop`` ends what is left of them."""

    def __init__(self, place: Path) -> None:
        if os.geteuid() != 0:
            raise Unavailable("a machine with qmail's users needs root")
        self.place = place
        self.home = place / "qmail"
        self.user = place / "jiro"
        self._write_accounts()
        self._started: list[subprocess.Popen[bytes]] = []
        self._holder = self._enter()
        make_home(self.home)
        os.chown(self.home / "alias", *USERS["alias"])
        configure(self.home, "indy2.nix.co.jj", lambda *_: None)
        write_bin(self.home)
        let_everyone_run(self.home / "bin")
        self._write_boot()

    def _write_accounts(self) -> None:
        self.user.mkdir()
        os.chown(self.user, *USERS["jiro"])
        homes = {"jiro": self.user, "alias": self.home / "alias"}
        accounts = [
            f"{name}:x:{uid}:{gid}::{homes.get(name, self.home)}:/bin/sh\n" for name, (uid, gid) in USERS.items()
        ]
        groups = [f"{name}:x:{gid}:\n" for name, gid in GROUPS.items()]
        (self.place / "passwd").write_text(Path("/etc/passwd").read_text() + "".join(accounts))
        (self.place / "group").write_text(Path("/etc/group").read_text() + "".join(groups))

    def _enter(self) -> subprocess.Popen[bytes]:
        devices = self.place / "dev"
        devices.mkdir()
        for device in DEVICES:
            (devices / device).touch()
        (devices / "fd").symlink_to("/proc/self/fd")
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", SET_UP.format(devices=" ".join(DEVICES))],
            cwd=self.place,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            holder.wait()
            raise Unavailable("this root may not make a mount namespace")
        return holder

    def _write_boot(self) -> None:
        (self.home / "boot").mkdir(exist_ok=True)
        for script in files("ekiden.boot").iterdir():
            path = self.home / "boot" / script.name
            path.write_text(script.read_text().replace("@HOME@", str(self.home)))
            path.chmod(0o755)

    def control(self, name: str, *lines: str) -> None:
        (self.home / "control" / name).write_text("".join(f"{line}\n" for line in lines))

    def _inside(self, argv: tuple[str | Path, ...]) -> list[str | Path]:
        return ["nsenter", "--mount", "--net", f"--target={self._holder.pid}", *argv]

    def run(self, *argv: str | Path, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end."""
        return subprocess.run(
            self._inside(argv),
            input=data,
            capture_output=True,
            env={"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", **environment},
            timeout=60,
        )

    def start(self, *argv: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program that stays, such as ``boot/home &``."""
        started = subprocess.Popen(
            self._inside(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], **environment},
        )
        self._started.append(started)
        return started

    def boot(self, script: str = "home") -> subprocess.Popen[bytes]:
        """``boot/home &``; returns once qmail-send runs."""
        started = self.start(self.home / "boot" / script)
        wait_until(lambda: self.sender == started.pid, "qmail-send")
        return started

    def dot_qmail(self, name: str, text: str) -> None:
        """A ``.qmail`` file of jiro's, or another file of his home."""
        path = self.user / name
        path.write_text(text)
        os.chown(path, *USERS["jiro"])

    def ps(self) -> list[tuple[str, str]]:
        """User and arguments of every process of this machine's home that ps shows."""
        shown = self.run("ps", "-eww", "-o", "pid=,user:20=,args=").stdout.decode()
        rows = [line.split(None, 2) for line in shown.splitlines()]
        ours = process_tree([self.sender])
        return [(user, args) for pid, user, args in rows if int(pid) in ours]

    @property
    def sender(self) -> int:
        """qmail-send's process, 0 if there is none."""
        with suppress(FileNotFoundError, ValueError):
            pid = int((self.home / "run" / "lock").read_text())
            if is_alive(pid) and Path(f"/proc/{pid}/comm").read_text() == "qmail-send\n":
                return pid
        return 0

    def stop(self) -> None:
        left = process_tree([started.pid for started in self._started] + ([self.sender] if self.sender else []))
        for pid in left:
            kill(pid, signal.SIGTERM)
        others = left - {started.pid for started in self._started}
        with suppress(AssertionError):
            wait_until(lambda: not any(map(is_alive, others)), "end of processes", seconds=5)
        for pid in left:
            kill(pid)
        for started in (*self._started, self._holder):
            end(started)
        assert self._holder.stdout is not None
        self._holder.stdout.close()


class Syslog:
    """The syslog daemon of a machine: what is written to its /dev/log."""

    def __init__(self, machine: Machine) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(machine.place / "dev" / "log"))
        (machine.place / "dev" / "log").chmod(0o666)
        self._entries: list[str] = []

    def wait_for(self, end: str, seconds: float = 60) -> list[str]:
        """All entries so far, once the last one ends with ``end``."""
        deadline = time.monotonic() + seconds
        while not self._entries or not self._entries[-1].endswith(end):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                self._entries.append(self._socket.recv(65536).decode())
            except TimeoutError:
                raise AssertionError(f"no entry {end!r} after {self._entries}") from None
        return self._entries

    def close(self) -> None:
        self._socket.close()

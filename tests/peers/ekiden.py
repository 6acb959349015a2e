"""A running ekiden as its administrator sees it: a home directory, control files and the ``ekiden`` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from weakref import WeakSet

from tests.peers.processes import free_port, is_alive, kill, process_tree, run

NOBODY = 65534
"""The user that mail is delivered as when the tests run as root, for whom ekiden delivers none."""

COMMAND = Path(sys.executable).parent / "ekiden"


made: WeakSet[Ekiden] = WeakSet()
"""All there are, so that their logs can be shown when a test fails."""


class Ekiden:
    """One home below ``directory``, whose smtpd listens on 127.0.0.1:``port``; commands run in ``environment``."""

    def __init__(
        self, directory: Path, fqdn: str = "ekiden.example", environment: dict[str, str] | None = None
    ) -> None:
        made.add(self)
        self._environment = environment
        self.home = directory / "home"
        self.port = free_port()
        self.fqdn = fqdn

    def command(self, *arguments: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``ekiden --home HOME ARGUMENTS`` to its end; output and errors are in ``stdout``."""
        return run([COMMAND, "--home", self.home, *arguments], seconds, check, env=self._environment)

    def configure(self) -> None:
        """First configuration; clients on loopback addresses may relay."""
        self.command("config", self.fqdn, "--listen", f"127.0.0.1:{self.port}")
        self.control("tcp.smtp", '127.:allow,RELAYCLIENT=""', ":allow")

    def control(self, name: str, *lines: str) -> None:
        """Write a control file; takes effect at the next start or reload."""
        path = self.home / "control" / name
        # Written beside and renamed, as an administrator's editor does: a running ekiden never reads half a file.
        beside = path.with_name(f"{name}.new")
        beside.write_text("".join(f"{line}\n" for line in lines))
        beside.rename(path)

    def routes(self, *lines: str) -> None:
        """Write smtproutes."""
        self.control("smtproutes", *lines)

    def make_inbox(self, name: str) -> Path:
        """A Maildir for the local address ``name``, by users/assign: the machine needs no such user."""
        user = os.getuid() or NOBODY
        directory = self.home.parent / f"user-{name}"
        maildir = directory / "Maildir"
        for part in ("cur", "new", "tmp"):
            (maildir / part).mkdir(parents=True)
        (directory / ".qmail").write_text("./Maildir/\n")
        for path in (directory, *directory.rglob("*")):
            os.chown(path, user, os.getgid() or NOBODY)
        assign = self.home / "users" / "assign"
        known = assign.read_text().removesuffix(".\n") if assign.exists() else ""
        assign.write_text(f"{known}={name}:{name}:{user}:{os.getgid() or NOBODY}:{directory}:::\n.\n")
        self.command("qmail-newu")
        return maildir

    def start(self) -> None:
        """Start; returns once it accepts connections, as the command promises."""
        self.command("start")

    def stop(self) -> None:
        """Stop if it runs; whatever is still left after 60 seconds is killed, and then this fails."""
        left = self.pids()
        try:
            if self.supervisor():
                self.command("stop", check=False)
        except subprocess.TimeoutExpired:
            print(self.log()[-8000:])
            raise
        finally:
            for pid in left:
                if is_alive(pid):
                    kill(pid)

    def starts_again(self) -> bool:
        """Start after a crash; whether there is a supervisor again."""
        return self.command("start", check=False).returncode == 0 and self.supervisor() != 0

    def kill_all(self) -> None:
        """End every process at once, as a power failure does; the supervisor first, so that it starts none again."""
        processes = self.pids()
        for pid in sorted(processes, key=lambda pid: pid != self.supervisor()):
            kill(pid)
        for pid in self.pids():
            kill(pid)

    def reload(self) -> None:
        """Make changed control files take effect."""
        self.command("reload")

    def supervisor(self) -> int:
        """The supervisor's process; 0 when it does not run."""
        try:
            pid = int((self.home / "run" / "lock").read_text())
        except (OSError, ValueError):
            return 0
        return pid if is_alive(pid) and pid in self.pids() else 0

    def pids(self) -> set[int]:
        """All processes of this home."""
        return process_tree(self._processes_of_home())

    def roles(self) -> dict[int, str]:
        """The supervisor's children by process id, each with its role's name."""
        state = json.loads((self.home / "run" / "roles").read_text())
        return {role["pid"]: role["role"] for role in state["roles"]}

    def _processes_of_home(self) -> set[int]:
        """Processes whose command line, environment or working directory is of this home."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._belongs(entry):
                found.add(int(entry.name))
        return found

    def _belongs(self, process: Path) -> bool:
        try:
            home = os.fsencode(self.home)
            if home in (process / "cmdline").read_bytes():
                return True
            if b"EKIDEN_HOME=" + home in (process / "environ").read_bytes().split(b"\0"):
                return True
            return (process / "cwd").readlink().is_relative_to(self.home)
        except OSError:
            return False

    def log(self) -> str:
        """What has been logged so far, the oldest first."""
        files = sorted((self.home / "log").glob("*"), key=lambda path: path.stat().st_mtime)
        return "".join(path.read_text(errors="replace") for path in files if path.is_file())

    def queue(self) -> list[dict[str, Any]]:
        """What ``ekiden queue list --json`` lists."""
        listed = self.command("queue", "list", "--limit", "0", "--json").stdout
        return [json.loads(line) for line in listed.splitlines() if line.startswith("{")]

    def status(self) -> dict[str, Any]:
        """What ``ekiden status --json`` says."""
        said: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return said


def let_everyone_run(bin_: Path) -> None:
    """Where our interpreter lies in a directory that others may not enter, let bin/'s programs use the system's."""
    if _is_open(Path(sys.executable).resolve()):
        return
    # Not our interpreter's own library: the system's has its own, which fits it.
    paths = [path for path in sys.path if path.startswith("/") and _is_open(Path(path))]
    for path in bin_.iterdir():
        ours = f"#!{sys.executable}\nimport sys\n"
        path.write_text(path.read_text().replace(ours, f"#!/usr/bin/python3\nimport sys\nsys.path[:0] = {paths!r}\n"))


def _is_open(path: Path) -> bool:
    """Whether everyone may enter the directories that lead there."""
    return all(directory.stat().st_mode & 0o001 for directory in path.parents)

"""The mail systems that are measured, each with its shipped durability and limits.

Both relay everything to one sink without DNS, refuse connections for ``dead.example``, and deliver ``inbox.example``
into a Maildir. Both spools are on the same file system.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.peers.ekiden import Ekiden
from tests.peers.postfix import Postfix
from tests.peers.processes import free_port

RELAYED = "somebody@sink.example"
DEAD = "somebody@dead.example"
LOCAL = "inbox@inbox.example"
_REFUSED = "[127.0.0.1]:9"


class Contender(Protocol):
    """One mail system, fresh in a directory of its own."""

    name: str
    port: int
    maildir: Path

    def start(self) -> None:
        """Start it; it need not accept connections yet when this returns."""

    def stop(self) -> None:
        """End all its processes."""

    def pids(self) -> set[int]:
        """All its processes."""

    def version(self) -> str:
        """Its name and version, for people."""


class EkidenContender:
    """ekiden as ``ekiden config`` leaves it, plus routes and ``settings``, files of control/ by name."""

    name = "ekiden"

    def __init__(self, directory: Path, sink_port: int, settings: Mapping[str, str] | None = None) -> None:
        self._ekiden = Ekiden(directory)
        self._directory = directory
        self.port = self._ekiden.port
        self._ekiden.configure()
        self.maildir = self._ekiden.make_inbox("inbox")
        self._ekiden.routes(f"dead.example:{_REFUSED}", f":[127.0.0.1]:{sink_port}")
        self._ekiden.control("locals", "ekiden.example", "inbox.example")
        for setting, value in (settings or {}).items():
            self._ekiden.control(setting, value)

    def start(self) -> None:
        """``ekiden start``."""
        self._ekiden.start()

    def stop(self) -> None:
        """``ekiden stop``."""
        self._ekiden.stop()

    def pids(self) -> set[int]:
        """The supervisor and all roles."""
        return self._ekiden.pids()

    def version(self) -> str:
        """As ``ekiden --version`` says."""
        return self._ekiden.command("--version").stdout.strip().replace(", version", "")


class PostfixContender:
    """Debian's Postfix: default process limits, destination concurrency and fsync; no client look-ups in DNS."""

    name = "Postfix"

    def __init__(self, directory: Path, sink_port: int) -> None:
        self.port = free_port()
        self.maildir = directory / "Maildir"
        routes = directory / "transport"
        aliases = directory / "aliases"
        routes.write_text(f"dead.example smtp:{_REFUSED}\n")
        aliases.write_text(f"inbox {self.maildir}/\n")
        _make_maildir(self.maildir)
        parameters = {
            "relayhost": f"[127.0.0.1]:{sink_port}",
            "disable_dns_lookups": "yes",
            "smtpd_peername_lookup": "no",
            "mydestination": "postfix.example, inbox.example",
            "transport_maps": f"texthash:{routes}",
            "alias_maps": f"texthash:{aliases}",
        }
        self._postfix = Postfix(directory, self.port, parameters, log=False)

    def start(self) -> None:
        """``postfix start``."""
        self._postfix.start()

    def stop(self) -> None:
        """``postfix stop``."""
        self._postfix.stop()

    def pids(self) -> set[int]:
        """The master and all its children."""
        return self._postfix.pids()

    def version(self) -> str:
        """As the package says."""
        asked = ["dpkg-query", "-W", "-f", "Postfix ${Version}", "postfix"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def _make_maildir(maildir: Path) -> None:
    """An empty Maildir, open to Postfix's ``default_privs``."""
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    for path in (maildir, *maildir.iterdir()):
        shutil.chown(path, "nobody", "nogroup")


def start_seconds(contender: Contender) -> float:
    """Start a contender; seconds from the command to the first greeting, whenever the command itself returns."""
    command = threading.Thread(target=contender.start)
    start = time.perf_counter()
    command.start()
    try:
        while time.perf_counter() - start < 30:
            if _greets(contender.port):
                return time.perf_counter() - start
            time.sleep(0.002)
    finally:
        command.join()
    raise TimeoutError(f"{contender.name} does not greet")


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False

"""What must be there before qmail-send gives up root: the lock, the sockets of ``run/``, ``queue/``'s directories.

The same lock and sockets as the supervisor's, so that one home is never served twice, and that whoever injects or
asks need not know who serves.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ekiden.runtime.binding import unix_socket
from ekiden.runtime.classic.message_files import DIRECTORIES
from ekiden.runtime.locks import hold_home
from ekiden.runtime.privilege import Identities, own, own_tree

SOCKETS = {"intake": 0o600, "inject": 0o666, "control": 0o600}
"""The sockets that somebody connects to when spawners deliver, and their modes."""


class CannotServe(Exception):
    """Why this home cannot be served now; the text is for the administrator."""


@dataclass
class Place:
    """Open descriptors; the lock is held for as long as this process lives."""

    sockets: Mapping[str, socket.socket]
    run: int
    reader: int
    """The user who may look at the queue; -1 if there is none."""
    _lock: int
    _roles: int
    _state: dict[str, Any]

    def tell(self, roles: dict[str, int]) -> None:
        """Write ``run/roles``, for ``ekiden status``: who serves, by process id."""
        now = time.time()
        self._state["roles"] = [
            {"role": name, "index": 0, "pid": pid, "since": now, "draining": False} for name, pid in roles.items()
        ]
        self._write()

    def reloaded(self) -> None:
        """Say in ``run/roles`` that new settings are taken over."""
        self._state["generation"] += 1
        self._write()

    def _write(self) -> None:
        # In its place, because whoever gave up root may not make files in run/. It only ever grows.
        os.pwrite(self._roles, json.dumps(self._state).encode() + b"\n", 0)


def prepare(home: Path, who: Identities) -> Place:
    """Take the home's lock, bind its sockets, make and own its directories; raises ``CannotServe``."""
    try:
        return _prepare(home, who)
    except OSError as error:
        raise CannotServe(f"{error.filename or home}: {error.strerror}") from None


def _prepare(home: Path, who: Identities) -> Place:
    (home / "run").mkdir(mode=0o755, exist_ok=True)
    try:
        held = hold_home(home)
    except BlockingIOError:
        raise CannotServe(f"{home}: ekiden or qmail-send is already running here") from None
    # From here on whoever injects waits for us, instead of writing the store, as whoever that is, beside us.
    sockets = _bind(home / "run", who)
    _make_queue(home / "queue", who)
    run = os.open(home / "run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    state = {"supervisor": os.getpid(), "generation": 1}
    return Place(sockets, run, who.reader.uid if who.reader else -1, held, _open_roles(home / "run"), state)


def _make_queue(queue: Path, who: Identities) -> None:
    """The directories that spawners read, which qmailr may search through its group."""
    queue.mkdir(mode=0o750, exist_ok=True)
    for name in ("mess", *DIRECTORIES):
        (queue / name).mkdir(mode=0o750, exist_ok=True)
    own_tree(queue, who.roles["queue"])
    for path in queue.iterdir():
        # Whoever injected without a daemon may have made them with any mode, and the group is to read mess/ only.
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)
    for name in ("", "mess", *DIRECTORIES):
        (queue / name).chmod(0o750)


def _bind(run: Path, who: Identities) -> dict[str, socket.socket]:
    sockets = {}
    for name, mode in SOCKETS.items():
        sockets[name] = bound = unix_socket(run / name)
        owners = {"intake": who.roles["smtpd"], "control": who.reader}
        own(run / name, owners.get(name), mode)
        bound.listen(1024)
    return sockets


def _open_roles(run: Path) -> int:
    path = run / "roles"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    os.fchmod(descriptor, 0o644)
    return descriptor

"""What must be there before the first role is forked: the home's lock, its directories, and every socket.

Roles inherit it; nothing of it is made a second time, but the listeners when a reload asks for others.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ekiden.runtime.binding import CannotListen, listen, passed_sockets, refuse_strange, take_passed, unix_socket
from ekiden.runtime.locks import hold_home
from ekiden.runtime.privilege import Identities, own, own_tree
from ekiden.runtime.roster import SOCKETS
from ekiden.settings.schema import Listener, Settings


class CannotStart(Exception):
    """Why ekiden does not start; the text is for the administrator."""


class QueueDamaged(CannotStart):
    """Why it does not start, or go on, however often that is tried."""


@dataclass
class Premises:
    """One home, locked and ready."""

    home: Path
    identities: Identities
    held: int
    """The descriptor of the lock."""
    log_read: socket.socket
    log_write: socket.socket
    listeners: list[tuple[Listener, socket.socket]]
    sockets: dict[str, socket.socket]
    """Those in run/, by name."""
    run: int
    """The directory run/."""
    life: int
    """A pipe's end that tells of the supervisor's death."""
    alive: int
    """The other one, which nobody but the supervisor may hold."""


def prepare(home: Path, settings: Settings, identities: Identities) -> Premises:
    """Lock the home and make all; raises ``CannotStart`` and OSError."""
    held = _lock(home)
    log_read, log_write = _log_channel()
    _prepare_directories(home, identities)
    listeners = _bind(settings)
    sockets = _bind_inside(home, identities)
    run = os.open(home / "run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if home.is_relative_to("/proc/self/fd"):
        # The one descriptor that whoever delivers keeps.
        home = Path(f"/proc/self/fd/{run}/..")
    life, alive = os.pipe2(os.O_CLOEXEC)
    return Premises(home, identities, held, log_read, log_write, listeners, sockets, run, life, alive)


def _lock(home: Path) -> int:
    for name in ("run", "log", "queue", "control", "users"):
        (home / name).mkdir(mode=0o755, exist_ok=True)
    try:
        return hold_home(home)
    except BlockingIOError:
        raise CannotStart(f"{home}: ekiden already runs here") from None


def _log_channel() -> tuple[socket.socket, socket.socket]:
    # Packets, because lines must not be torn, and connected, because the log ends when nobody can write to it.
    log_read, log_write = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Whoever logs must not hang because nobody reads.
    log_write.setblocking(False)
    log_write.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
    return log_read, log_write


def _prepare_directories(home: Path, identities: Identities) -> None:
    own(home / "run", None, 0o755)
    (home / "queue").chmod(0o700)
    own_tree(home / "queue", identities.roles["queue"])
    own_tree(home / "log", identities.roles["log"])


def _bind(settings: Settings) -> list[tuple[Listener, socket.socket]]:
    passed = passed_sockets()
    try:
        taken = [take_passed(listener, passed) for listener in settings.listen]
        refuse_strange(passed)
        return [
            (listener, bound or listen(listener, settings.listenbacklog))
            for listener, bound in zip(settings.listen, taken, strict=True)
        ]
    except CannotListen as error:
        raise CannotStart(str(error)) from None


def _bind_inside(home: Path, identities: Identities) -> dict[str, socket.socket]:
    sockets = {}
    for name, role in SOCKETS.items():
        path = home / "run" / name
        sockets[name] = bound = unix_socket(path)
        owner = identities.reader if name == "control" else identities.roles[role] if role else None
        own(path, owner, 0o666 if name == "inject" else 0o600)
        bound.listen(1024)
    return sockets

"""Which process does which role's work, told by the supervisor to the queue, so that it knows who connects to it.

Where all roles are one user, the permissions of sockets tell none from the other, nor from that user's commands. The
kernel tells the process at the other end (unix(7), SO_PEERCRED); a role that is isolated cannot make another process.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

import msgspec

from ekiden.runtime.packets import latest

_LONGEST = 262_144

SOCKETS = {
    "intake": "smtpd",
    "remote": "remote",
    "local": "local",
    "inject": None,
    "control": None,
    "keeper": "smtpd",
}
"""The sockets in ``run/``, and the role that each is for, if it is for one alone; ``control`` is for no role.

The queue listens at all of them, but the keeper of passwords at its own."""


def tell(connection: socket.socket, roles: Mapping[int, str]) -> None:
    """Say the role of each process, all of them; before one of them can connect.

    What a queue that reads nothing does not hear it hears with the next change.
    """
    with contextlib.suppress(OSError):
        connection.send(msgspec.msgpack.encode(roles))


class Roster:
    """The queue's end; without a connection there are no roles that could be taken for others."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self._roles: dict[int, str] = {}

    def admits(self, pid: int, name: str) -> bool:
        """Whether the process may connect to ``run/NAME``."""
        if self._connection is None:
            return True
        role = self._role(pid)
        if name == "control":
            return role is None
        return SOCKETS[name] in (None, role)

    def _role(self, pid: int) -> str | None:
        assert self._connection is not None
        if told := latest(self._connection, _LONGEST):
            self._roles = msgspec.msgpack.decode(told, type=dict[int, str])
        return self._roles.get(pid)

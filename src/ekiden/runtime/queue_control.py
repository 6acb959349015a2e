"""The queue role's side towards those who look into the queue and change it: connections to ``run/control``."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from ekiden.runtime.administration import Administration
from ekiden.runtime.control_frames import ControlRequest, only_looks
from ekiden.runtime.injection.link import peer
from ekiden.runtime.link import MAXIMUM_FRAME, Link

CONNECTIONS = 100
"""Connections that one user may have at once."""

AT_ONCE = 16
"""Questions that one connection may ask before it reads the answers."""

LOOKING_FRAME = 65_536
"""Octets of the longest question of a user who may only look."""


class Controllers:
    """The side towards them. ``reader``: the user who may only look; -1 if there is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, administration: Administration, reader: int) -> None:
        self._loop = loop
        self._administration = administration
        self._reader = reader
        self._connections: Counter[int] = Counter()

    def open(self, connection: socket.socket) -> None:
        """A new connection; closed at once if it is of somebody who may not have it."""
        _pid, uid = peer(connection)
        may_change = uid in (0, os.getuid())
        if not (may_change or uid == self._reader) or self._connections[uid] >= CONNECTIONS:
            connection.close()
            return
        self._connections[uid] += 1
        _Controller(self._loop, connection, self._administration, uid, may_change, partial(self._closed, uid))

    def _closed(self, uid: int, _reason: str) -> None:
        self._connections[uid] -= 1


class _Controller:
    """One connection of the user ``uid``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        administration: Administration,
        uid: int,
        may_change: bool,
        closed: Callable[[str], None],
    ) -> None:
        self._administration = administration
        self._uid = uid
        self._may_change = may_change
        self._asked = 0
        """Questions in what was read together."""
        decoder = msgspec.msgpack.Decoder(ControlRequest)
        longest = MAXIMUM_FRAME if may_change else LOOKING_FRAME
        self._link: Link[ControlRequest] = Link(loop, connection, decoder, self._take, closed, self._turn, longest)

    def _take(self, frame: ControlRequest, _descriptor: int | None) -> None:
        self._asked += 1
        if not (self._may_change or only_looks(frame)):
            self._link.close(f"uid {self._uid} may not ask for this")
        elif self._asked > AT_ONCE or self._link.is_stalled:
            self._link.close("answers are not read")
        else:
            self._link.send(self._administration.answer(frame, self._uid))

    def _turn(self) -> None:
        self._asked = 0

"""Who may connect to ``run/inject``, how often, and how much memory their unfinished frames may take.

Everybody on this machine may, so that nobody's share may be all there is: connections and memory are limited for each
user and for all together (settings ``injectperuser`` and ``injectconnections``). A frame for which there is no memory
now waits in its sender's socket.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from typing import Protocol

from ekiden.settings.schema import Settings

ENVELOPE_OCTETS = 8 * 1024 * 1024
"""What a frame may have on top of inline content: some 100,000 recipients."""

FILES = 250
"""Spool files that one user may have been granted and not used yet."""

_SHARES = 8
"""Users who may each have a frame of the largest size under way at the same time."""
_SWEEP_SECONDS = 10.0


class Guest(Protocol):
    """A connection, as far as it is limited."""

    uid: int
    granted: set[str]

    def resume(self) -> None:
        """Its frame has its memory now."""

    def check(self, now: float) -> None:
        """Close if it has been too long."""


class Limits:
    """The connections that are there, by user, and their memory."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._loop = loop
        self._guests: dict[int, set[Guest]] = {}
        self._reserved: dict[Guest, int] = {}
        self._waiting: dict[Guest, int] = {}
        self.configure(settings)
        self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def configure(self, settings: Settings) -> None:
        """Take over changed settings."""
        self._most = settings.injectconnections
        descriptors, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors != resource.RLIM_INFINITY:
            # The other half is for the roles and for messages in files.
            self._most = min(self._most, max(1, descriptors // 2))
        self._most_of_one = settings.injectperuser
        self.frame = settings.inlinebytes + ENVELOPE_OCTETS

    def refusal(self, uid: int) -> str:
        """Why this user may have no further connection now; empty if it may."""
        if len(self._guests.get(uid, ())) >= self._most_of_one:
            return f"too many connections of uid {uid}, try again later"
        if sum(map(len, self._guests.values())) >= self._most:
            return "too many connections, try again later"
        return ""

    def entered(self, guest: Guest) -> None:
        """Count a connection."""
        self._guests.setdefault(guest.uid, set()).add(guest)

    def left(self, guest: Guest) -> None:
        """A connection is gone."""
        present = self._guests.get(guest.uid, set())
        present.discard(guest)
        if not present:
            self._guests.pop(guest.uid, None)
        self._waiting.pop(guest, None)
        self.release(guest)

    def may_have_file(self, uid: int) -> bool:
        """Whether a user may be granted one more spool file."""
        return sum(len(guest.granted) for guest in self._guests.get(uid, ())) < FILES

    def reserve(self, guest: Guest, octets: int) -> bool:
        """Whether a frame of this size may be read; if not now, the guest is resumed later."""
        if guest in self._reserved:
            return True
        of_one = sum(held for other, held in self._reserved.items() if other.uid == guest.uid)
        share = self.frame + 4
        if of_one + octets > share or sum(self._reserved.values()) + octets > _SHARES * share:
            self._waiting.setdefault(guest, octets)
            return False
        self._reserved[guest] = octets
        self._waiting.pop(guest, None)
        return True

    def release(self, guest: Guest) -> None:
        """Its frame is whole, or it is gone."""
        if self._reserved.pop(guest, None) is None:
            return
        for waiting, octets in list(self._waiting.items()):
            if self.reserve(waiting, octets):
                waiting.resume()

    def _sweep(self) -> None:
        self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        now = self._loop.time()
        for guest in self._all():
            guest.check(now)

    def _all(self) -> Iterable[Guest]:
        return [guest for guests in self._guests.values() for guest in guests]

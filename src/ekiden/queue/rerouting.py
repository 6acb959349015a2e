"""Remote mail that is queued goes where smtproutes says now, as qmail-remote reads the file at every attempt.

A part that the store gives out for another attempt, or that waits in memory while the settings change, is looked at:
if its recipients have other next hops than its lane, its row is written anew for them, and their lanes find it after
the commit. Only the next hop is looked at: whether a recipient is local or remote, and its rewriting, are decided
once, when its message comes in (qmail-send(8)).

What a crash leaves: the part as it was, or moved whole; its recipients are in one row or the other, never in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ekiden.base.envelope import Recipient
from ekiden.queue.lane import Lane, Part
from ekiden.queue.sealing import encode_recipients
from ekiden.queue.store import Changes, Store, StoreFull
from ekiden.routing.route import Router


class Lanes(Protocol):
    """What is needed of the scheduler."""

    changes: Changes

    def lane(self, key: bytes, channel: str) -> Lane: ...
    def lanes(self) -> list[Lane]: ...
    def moving(self, part: Part, lanes: Iterable[Lane]) -> None: ...


class Rerouting:
    """For one scheduler. Without a router, which ``configure`` gives, everything stays where it is."""

    def __init__(self, scheduler: Lanes, store: Store) -> None:
        self._scheduler = scheduler
        self._store = store
        self._next_hop: Callable[[bytes], bytes] | None = None
        self._router: Router | None = None

    def configure(self, router: Router) -> None:
        """Decide by this one from now on, also about what waits in memory."""
        before, self._router = self._router, router
        self._next_hop = router.next_hop
        if before is not None and not router.sends_as(before):
            for lane in self._scheduler.lanes():
                if lane.channel == "remote":
                    self._look_at_waiting(lane)

    def stays(self, lane: Lane, recipients: list[Recipient]) -> bool:
        """Whether this is still the lane for all of them."""
        next_hop, key = self._next_hop, lane.key
        return (
            lane.channel == "local"
            or next_hop is None
            or all(next_hop(recipient.address) == key for recipient in recipients)
        )

    def _look_at_waiting(self, lane: Lane) -> None:
        for part in [part for part in lane.waiting if not self.stays(lane, part.recipients)]:
            due, last = self._stored(part)
            if self.move(part, due, last):
                lane.waiting.remove(part)
                part.message.at_hand -= 1

    def _stored(self, part: Part) -> tuple[float, str]:
        """When the part was due, and the last attempt's report."""
        if part.stored:
            for row in self._store.parts(part.message.id, []):
                if row.part == part.number and row.due is not None:
                    return row.due, row.last
        return part.message.birth, ""

    def move(self, part: Part, due: float, last: str) -> bool:
        """Write the part anew for the lanes of its recipients; False if the store has no room for that.

        The part must not be waiting in its lane any more when the changes are committed.
        """
        assert self._next_hop is not None
        groups: dict[bytes, list[Recipient]] = {}
        for recipient in part.recipients:
            groups.setdefault(self._next_hop(recipient.address), []).append(recipient)
        scheduler = self._scheduler
        try:
            numbers = [part.number, *(self._store.new_part_number() for _ in range(len(groups) - 1))]
            lanes = [scheduler.lane(key, "remote") for key in groups]
        except StoreFull:
            return False
        for number, lane, recipients in zip(numbers, lanes, groups.values(), strict=True):
            encoded = encode_recipients(recipients, part.message.id, lane.id)
            row = (part.message.id, number, lane.id, due, part.attempts, encoded, last)
            scheduler.changes.deferred.append(row)
        part.message.left += len(groups) - 1
        scheduler.moving(part, lanes)
        return True

"""Which part is attempted next: fair between destinations, bounded in memory whatever the backlog.

The store holds every part with the time at which it is due. The scheduler holds *lanes*, one per destination that has
something due or had so lately, each with a short queue of parts at hand; it fills them from the store as they drain.
A lane's turn comes round and round (a ring per channel), and no lane may take the last free places of its channel:
it may have three times as many transactions in progress as places stay free, and three times as many parts at hand as
there is room for more. So a slow destination with any backlog leaves room for whoever comes next, and where many slow
ones have left none, one part of each other is held all the same.

Some more local deliveries are handed over than may run (``localahead``), so that the local role can begin the next
ones the moment others end; it keeps to the same rule (``may_begin``).

Nothing here looks at a clock or touches a socket; times are seconds of the epoch, given by the caller.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from ekiden.queue.aside import Aside
from ekiden.queue.lane import Lane, Message, Part
from ekiden.queue.rerouting import Rerouting
from ekiden.queue.sealing import key_check
from ekiden.queue.store import NEVER, NEXT_START, Changes, MessageRow, PartRow, RowDamaged, Store, StoreDamaged
from ekiden.settings.schema import Settings

CHANNELS = ("local", "remote")
_SHARE = 3
_REFILL = 50
_FILLED = 20
"""Lanes that are filled at once."""
_LOOKED_AT = 200
"""Lanes that are looked at for that."""
_LANES = 5000
_FETCHED = 1000
"""Destinations that are fetched from the store at once."""
_LINGER = 30.0
"""Seconds for which an idle lane is remembered before it goes back to the store."""


def may_begin(in_flight: int, free: int) -> bool:
    """Whether a destination with so many transactions may have one more while so many places are free."""
    return free > 0 and in_flight < _SHARE * free


class Scheduler:
    """Lanes over a store. ``changes`` collects what the store must learn with the next transaction."""

    def __init__(self, settings: Settings, store: Store, aside: Aside) -> None:
        self._store = store
        self._aside = aside
        self._lanes: dict[bytes, Lane] = {}
        self._rings: dict[str, deque[Lane]] = {channel: deque() for channel in CHANNELS}
        self._hungry: dict[Lane, None] = {}
        self._expected: set[Lane] = set()
        self._at_hand: dict[str, dict[tuple[int, int], Part]] = {channel: {} for channel in CHANNELS}
        self._messages: dict[int, Message] = {}
        self._leaving: list[Message] = []
        self._done: list[Part] = []
        self._content_bytes = 0
        self._moved: set[Lane] = set()
        self.rerouting = Rerouting(self, store)
        self.in_flight = dict.fromkeys(CHANNELS, 0)
        self.changes = Changes()
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take over changed settings; what is in progress goes on."""
        self._settings = settings
        self.limit = {"local": settings.concurrencylocal, "remote": settings.concurrencyremote}
        ahead = settings.localahead if settings.concurrencylocal else 0
        self._places = self.limit | {"local": settings.concurrencylocal + ahead}

    @property
    def busy(self) -> dict[str, int]:
        """Deliveries that are in progress, by channel: without those that were handed over to come after them."""
        return {channel: min(count, self.limit[channel]) for channel, count in self.in_flight.items()}

    # Parts come in

    def lane(self, key: bytes, channel: str) -> Lane:
        """The destination's lane, made or fetched from the store if it is not at hand."""
        lane = self._lanes.get(key)
        if lane is None:
            number = self._store.destination(key)
            if number is None:
                number = self._store.new_destination_id()
                self.changes.destinations.append((number, key, key_check(key, number)))
            else:
                self.changes.parked.append((None, number))
                self.changes.forgotten = [row for row in self.changes.forgotten if row[0] != number]
            lane = self._add_lane(number, key, channel)
        elif not lane.at_hand:
            self._look_into(lane)
        self._expected.add(lane)
        return lane

    def _add_lane(self, number: int, key: bytes, channel: str) -> Lane:
        window = float(self._settings.concurrencydestinationstart if channel == "remote" else self._places["local"])
        lane = self._lanes[key] = Lane(number, key, channel, max(1.0, window))
        # What the store has for it is unknown; one look tells.
        self._look_into(lane)
        return lane

    def _look_into(self, lane: Lane) -> None:
        """Have the store asked for what the lane has due."""
        lane.more = True
        self._hungry[lane] = None

    def has_room(self, lane: Lane, coming: int = 0) -> bool:
        """Whether the lane may hold one more part at hand, beside those that are coming anyway."""
        taken = lane.at_hand + coming
        free = self._settings.activemessages - len(self._at_hand[lane.channel]) - coming
        return may_begin(taken, free) or (not taken and len(self._lanes) <= _LANES)

    def admit(self, parts: Iterable[Part]) -> None:
        """Hold new parts, just stored and due now, or leave them in the store if there are too many at hand."""
        for part in parts:
            if not part.stored or self.has_room(part.lane):
                self._hold(part)
            else:
                self._look_into(part.lane)

    def _hold(self, part: Part) -> None:
        message = part.message
        self._at_hand[part.lane.channel][message.id, part.number] = part
        if message.id not in self._messages:
            self._messages[message.id] = message
            if message.content is not None:
                self._content_bytes += len(message.content)
                if self._content_bytes > self._settings.activebytes:
                    self._drop_content(message)
        message.at_hand += 1
        part.lane.waiting.append(part)
        self._enter_ring(part.lane)

    def _drop_content(self, message: Message) -> None:
        if message.content is not None:
            self._content_bytes -= len(message.content)
            message.content = None

    def _enter_ring(self, lane: Lane) -> None:
        if not lane.in_ring:
            lane.in_ring = True
            self._rings[lane.channel].append(lane)

    # Parts go out

    def pick(self, now: float, channels: Iterable[str] = CHANNELS) -> Iterator[Part]:
        """The parts of these channels to attempt now. Each counts as in flight until ``finish``.

        A part whose lane is paused comes out as well, beyond all limits, for the caller to defer at once with the
        reason the lane has in ``last``.
        """
        for channel in channels:
            while (part := self._pick(channel, now)) is not None:
                yield part

    def _pick(self, channel: str, now: float) -> Part | None:
        ring = self._rings[channel]
        free = self._places[channel] - self.in_flight[channel]
        for _ in range(len(ring)):
            lane = ring.popleft()
            if not lane.waiting:
                lane.in_ring = False
                continue
            paused = lane.paused_until > now
            if paused or (lane.in_flight + 1 <= lane.window and may_begin(lane.in_flight, free)):
                ring.append(lane)
                return self._take(lane)
            if lane.in_flight + 1 > lane.window:
                # Its own next finish brings it back.
                lane.in_ring = False
            else:
                ring.append(lane)
        return None

    def _take(self, lane: Lane) -> Part:
        part = lane.waiting.popleft()
        lane.in_flight += 1
        self.in_flight[lane.channel] += 1
        part.message.in_flight += 1
        if lane.more and len(lane.waiting) <= lane.window:
            self._hungry[lane] = None
        return part

    def finish(self, part: Part, now: float) -> None:
        """The part's attempt has ended, however. Part and message stay known until ``committed``.

        Until then the store still has the part as due, and the message as it was.
        """
        lane, message = part.lane, part.message
        lane.in_flight -= 1
        self.in_flight[lane.channel] -= 1
        message.in_flight -= 1
        self._done.append(part)
        message.at_hand -= 1
        if not message.at_hand:
            self._leaving.append(message)
        if lane.waiting:
            self._enter_ring(lane)
        elif not lane.in_flight:
            lane.idle_since = now

    def committed(self) -> None:
        """The collected changes are in the store; begin to collect anew."""
        for part in self._done:
            self._at_hand[part.lane.channel].pop((part.message.id, part.number), None)
        self._done.clear()
        self.changes = Changes()
        self._expected.clear()
        for lane in self._moved:
            self._look_into(lane)
        self._moved.clear()
        for message in self._leaving:
            if not message.at_hand:
                self._drop_content(message)
                self._messages.pop(message.id, None)
        self._leaving.clear()

    def later(self, part: Part, due: float) -> None:
        """The part stays in the store and is due at that time."""
        part.lane.next_due = min(part.lane.next_due, due)
        # The store does not know of it yet: asked now, it would say that the destination has nothing left.
        self._expected.add(part.lane)

    def moving(self, part: Part, lanes: Iterable[Lane]) -> None:
        """The part, which waits in no lane, is in the store for these lanes as soon as the changes are committed.

        Until then its message is known, so that nobody counts parts of which the store has not heard.
        """
        message = part.message
        self._messages[message.id] = message
        self._leaving.append(message)
        self._at_hand[part.lane.channel][message.id, part.number] = part
        self._done.append(part)
        self._moved.add(part.lane)
        self._moved.update(lanes)
        self._expected.add(part.lane)

    def known(self, message: int) -> Message | None:
        """The message if one of its parts is at hand."""
        return self._messages.get(message)

    # From the store

    def refill(self, now: float) -> bool:
        """Fill lanes that ran low, those first that have waited longest; whether there is more to do at once."""
        filled = 0
        for lane in list(islice(self._hungry, _LOOKED_AT)):
            del self._hungry[lane]
            if lane.more and self.has_room(lane):
                self._fill(lane, now)
                filled += 1
                if filled == _FILLED:
                    break
            elif lane.more:
                self._hungry[lane] = None
        return bool(filled and self._hungry)

    def _fill(self, lane: Lane, now: float) -> None:
        # The oldest due are at hand, set aside, or done and not committed; so as many more must be asked for.
        done = len(self.changes.finished) + len(self.changes.deferred)
        limit = lane.at_hand + done + lane.aside + _REFILL
        damaged: list[RowDamaged] = []
        rows = self._store.claim(lane.id, now, limit, damaged)
        found = len(rows) + len(damaged)
        for row in rows:
            if (row.message, row.part) not in self._at_hand[lane.channel]:
                if not self.has_room(lane):
                    self._hungry[lane] = None
                    return
                try:
                    self._hold_stored(lane, row)
                except RowDamaged as fault:
                    damaged.append(fault)
        for each in damaged:
            self._aside.add(each)
        if found < limit:
            lane.more = False
            due = self._store.destination_next_due(lane.id, now)
            lane.next_due = min(lane.next_due, math.inf if due is None else due)
        elif len(damaged) > lane.aside and not lane.at_hand:
            # Behind them there may be others, and no part that ends brings the lane back.
            self._hungry[lane] = None
        lane.aside = len(damaged)

    def _hold_stored(self, lane: Lane, row: PartRow) -> None:
        message = self._messages.get(row.message)
        if message is None:
            stored = self._store.message(row.message)
            if stored is None:
                raise RowDamaged(row.message, "its envelope is gone")
            message = self.from_store(stored)
        part = Part(message, row.part, lane, row.recipients, row.attempts)
        if self.rerouting.stays(lane, row.recipients) or not self.rerouting.move(part, row.due or 0.0, row.last):
            self._hold(part)

    def from_store(self, row: MessageRow) -> Message:
        """A stored message taken into memory, its content left where it is."""
        left = self._store.part_count(row.id)
        return Message(
            row.id, row.birth, row.sender, row.size, row.spool, row.meta, None, left, ended=list(row.ended)
        )

    def tick(self, now: float) -> bool:
        """Once a second: wake lanes that are due, fetch destinations that are due, forget idle lanes.

        Whether there is more to do at once.
        """
        wanted = self._lanes_wanted()
        found = self._store.due_destinations(now, wanted) if wanted else []
        for number, key in found:
            self._fetched(number, key)
        crowded = len(self._lanes) > _LANES - _FETCHED
        for lane in list(self._lanes.values()):
            if lane.next_due <= now:
                lane.next_due = math.inf
                self._look_into(lane)
            elif (
                not lane.at_hand
                and lane not in self._expected
                and not (lane.more and (not crowded or self.has_room(lane)))
                and (crowded or now - lane.idle_since > _LINGER)
            ):
                self._forget(lane, now)
        return bool(found)

    def _fetched(self, number: int, key: bytes) -> None:
        """A destination that is due, which the store gives out until it is parked again."""
        self.changes.parked.append((None, number))
        lane = self._lanes.get(key)
        if lane is None:
            self._add_lane(number, key, channel_of(key))
            return
        if lane.id != number:
            # A look by its key did not find it: its index is damaged, and nobody would try what is for it.
            raise StoreDamaged(f"destinations {lane.id} and {number} have the same key")
        self._look_into(lane)

    def _lanes_wanted(self) -> int:
        """How many destinations that are due may be fetched from the store now; few where there are many at hand."""
        most = self._settings.activemessages
        if len(self._lanes) >= 2 * _LANES or all(len(parts) >= most for parts in self._at_hand.values()):
            return 0
        return min(_FETCHED, max(_FETCHED // 10, _LANES - len(self._lanes)))

    def _forget(self, lane: Lane, now: float) -> None:
        if lane.paused_until > now and len(self._lanes) <= 2 * _LANES:
            return
        # What is set aside is due, and would be fetched again and again.
        skips = lane.aside and not lane.more
        due = self._store.destination_next_due(lane.id, now if skips else 0.0)
        if skips and due == NEVER:
            due = NEXT_START
        if due is None:
            self.changes.forgotten.append((lane.id,))
        else:
            self.changes.parked.append((due, lane.id))
        del self._lanes[lane.key]
        self._hungry.pop(lane, None)

    def wake_all(self) -> None:
        """Look at every lane anew, pauses forgotten (after ALRM, a flush or a release)."""
        for lane in self._lanes.values():
            lane.forgive()
            self._look_into(lane)

    def is_attempting(self, message: int) -> bool:
        """Whether a part of the message is in flight."""
        known = self._messages.get(message)
        return known is not None and known.in_flight > 0

    def withdraw(self, message: int) -> None:
        """Let go of a message, not in flight, that the administrator has changed in the store."""
        held = self._messages.get(message)
        if held is None:
            return
        del self._messages[message]
        held.withdrawn = True
        self._drop_content(held)
        at_hand = [part for parts in self._at_hand.values() for part in parts.values()]
        for lane in {part.lane for part in at_hand if part.message is held}:
            for part in [part for part in lane.waiting if part.message is held]:
                lane.waiting.remove(part)
                del self._at_hand[lane.channel][message, part.number]
                held.at_hand -= 1
            if lane.more:
                self._hungry[lane] = None

    def lanes(self) -> list[Lane]:
        """Lanes at hand, for the administrator to see."""
        return list(self._lanes.values())


def channel_of(key: bytes) -> str:
    """The channel of a destination's key: local ones begin with ``local``, and a colon follows if anything does."""
    return "local" if key == b"local" or key.startswith(b"local:") else "remote"

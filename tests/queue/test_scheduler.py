from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ekiden.base.envelope import Origin, Recipient
from ekiden.queue.aside import Aside
from ekiden.queue.lane import Lane, Message, Part
from ekiden.queue.scheduler import Scheduler
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import Changes, Meta
from ekiden.settings.schema import Settings

META = Meta(Origin("smtp", 1, 2))
MOST = Settings(me=b"me").concurrencydestination


class House:
    """A scheduler with its store, and messages put into both."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.store = SQLiteStore(directory)
        self.scheduler = Scheduler(settings, self.store, Aside(print))
        self.sent = 0

    def put(self, key: bytes, count: int, now: float = 100.0, channel: str = "remote") -> Lane:
        lane = self.scheduler.lane(key, channel)
        intake = Changes()
        new = []
        for _ in range(count):
            number = self.store.new_message_id()
            intake.messages.append((number, now, b"", 1, None, msgspec.msgpack.encode(META), b"x", None, None))
            recipients = [Recipient(b"a@" + key)]
            intake.parts.append((number, 0, lane.id, now, msgspec.msgpack.encode(recipients)))
            message = Message(number, now, b"", 1, "", META, b"x", left=1)
            new.append([Part(message, 0, lane, recipients)])
        self.commit(intake)
        for parts in new:
            self.scheduler.admit(parts)
        return lane

    def commit(self, intake: Changes | None = None) -> None:
        self.store.apply(self.scheduler.changes, intake)
        self.scheduler.committed()

    def done(self, part: Part, now: float = 100.0) -> None:
        self.scheduler.finish(part, now)
        self.scheduler.changes.finished.append((part.message.id, part.number))
        self.scheduler.changes.removed.append((part.message.id,))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, Settings(me=b"me", concurrencyremote=20, concurrencydestination=20))


def picked(house: House, now: float = 100.0) -> list[bytes]:
    return [part.lane.key for part in house.scheduler.pick(now)]


def test_one_destination_leaves_places_free(house: House) -> None:
    lane = house.put(b"slow", 100)
    lane.window = 20.0
    assert picked(house) == [b"slow"] * 15  # three times the five that stay free
    house.put(b"other", 1)
    assert picked(house) == [b"other"]


def test_local_deliveries_are_handed_over_ahead_but_do_not_count_as_in_progress(tmp_path: Path) -> None:
    house = House(tmp_path, Settings(me=b"me", concurrencylocal=10, localahead=10))
    for name in range(25):
        house.put(b"local:%d@me" % name, 2, channel="local")
    parts = list(house.scheduler.pick(100.0))
    assert len(parts) == 20
    assert house.scheduler.busy == {"local": 10, "remote": 0}
    for part in parts[:15]:
        house.done(part)
    assert house.scheduler.busy == {"local": 5, "remote": 0}


def test_no_local_delivery_is_handed_over_when_none_may_run(tmp_path: Path) -> None:
    house = House(tmp_path, Settings(me=b"me", concurrencylocal=0, localahead=10))
    house.put(b"local:a@me", 10, channel="local")
    assert picked(house) == []


def test_destinations_take_turns(house: House) -> None:
    house.put(b"a", 3)
    house.put(b"b", 3)
    assert picked(house) == [b"a", b"b"] * 3


def test_the_window_grows_with_success_and_closes_with_failure(house: House) -> None:
    lane = house.put(b"a", 100)
    first = list(house.scheduler.pick(100.0))
    assert len(first) == 5
    for part in first:
        house.done(part)
        lane.reached(80.0, MOST)
    assert lane.window == 10
    lane.unreachable(100.0, "no answer\n")
    assert (lane.window, lane.paused_until, lane.failures) == (1, 110.0, 1)
    lane.unreachable(105.0, "no answer\n")
    assert lane.failures == 1, "attempts that were under way count once"
    lane.unreachable(111.0, "no answer\n")
    assert (lane.paused_until, lane.failures) == (131.0, 2)


def test_memory_is_bounded_and_the_rest_comes_from_the_store(tmp_path: Path) -> None:
    house = House(tmp_path, Settings(me=b"me", activemessages=10, concurrencydestinationstart=20))
    house.put(b"a", 300)
    seen = set()
    for _ in range(200):
        house.commit()
        house.scheduler.refill(101.0)
        parts = list(house.scheduler.pick(101.0))
        assert at_hand(house) <= 10
        for part in parts:
            assert part.message.id not in seen
            seen.add(part.message.id)
            house.done(part)
    assert len(seen) == 300


def test_a_destination_that_takes_some_at_a_time_gets_no_more_but_does_not_rest(house: House) -> None:
    lane = house.put(b"narrow", 100)
    first = list(house.scheduler.pick(100.0))
    for part in first[:2]:  # the third to fifth connection was taken
        house.done(part)
        lane.unreachable(100.0, "421 too many connections\n")
    assert (lane.window, lane.in_flight, lane.paused_until) == (3, 3, 0.0)
    assert picked(house) == []
    for part in first[2:]:
        house.done(part)
        lane.reached(100.0, MOST)
    assert 3 < lane.window < 4, "it asks for one more, but not with each success"
    assert len(picked(house)) == 3


def test_a_destination_that_has_just_answered_does_not_rest(house: House) -> None:
    lane = house.put(b"a", 10)
    (first, second, *others) = house.scheduler.pick(100.0)
    for part in (first, *others):
        house.done(part)
        lane.reached(100.0, MOST)
    house.done(second)
    lane.unreachable(109.0, "421 too many connections\n")
    assert (lane.window, lane.paused_until) == (1, 0.0)
    lane.unreachable(110.0, "no answer\n")
    assert lane.paused_until == 120.0


def at_hand(house: House) -> int:
    return sum(lane.at_hand for lane in house.scheduler.lanes())


@pytest.mark.parametrize("slow", [1, 5, 100])
def test_slow_destinations_with_any_backlog_leave_room_in_memory(tmp_path: Path, slow: int) -> None:
    house = House(tmp_path, Settings(me=b"me", concurrencyremote=500, activemessages=2000))
    for number in range(slow):
        house.put(b"slow%d" % number, 10_000 // slow)
        picked(house)
    house.scheduler.refill(100.0)
    for channel, key in (("remote", b"other"), ("local", b"local:a@me")):
        house.put(key, 3, channel=channel)
        assert set(picked(house)) == {key}
    assert at_hand(house) <= 2000 + slow


def test_every_destination_gets_its_turn_though_there_are_more_than_fit_into_memory(tmp_path: Path) -> None:
    house = House(tmp_path, Settings(me=b"me", activemessages=20))
    for number in range(100):
        house.put(b"d%d" % number, 5)
    seen = set()
    for _ in range(50):
        house.scheduler.refill(100.0)
        for part in list(house.scheduler.pick(100.0)):
            seen.add(part.lane.key)
            house.done(part)
        house.commit()
    assert len(seen) == 100


def test_destinations_without_room_in_memory_wait_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ekiden.queue.scheduler._LANES", 50)
    house = House(tmp_path, Settings(me=b"me", activemessages=20))
    for number in range(200):
        house.put(b"d%d" % number, 1)
    house.scheduler.tick(100.0)
    house.commit()
    assert len(house.scheduler.lanes()) <= 50 + 1
    seen = set()
    for second in range(40):
        house.scheduler.tick(101.0 + second)
        house.scheduler.refill(101.0 + second)
        for part in list(house.scheduler.pick(101.0 + second)):
            seen.add(part.lane.key)
            house.done(part)
        house.commit()
        assert len(house.scheduler.lanes()) < 200
    assert len(seen) == 200


def test_many_destinations_that_are_due_together_come_within_seconds(house: House) -> None:
    for number in range(1500):
        house.put(b"d%d" % number, 1)
    house.store.recover()
    again = Scheduler(Settings(me=b"me"), house.store, Aside(print))
    for second in range(2):
        again.tick(200.0 + second)
        house.store.apply(again.changes)
        again.committed()
    assert len(again.lanes()) == 1500


def test_a_deferred_part_comes_back_when_it_is_due(house: House) -> None:
    house.put(b"a", 1)
    (part,) = house.scheduler.pick(100.0)
    house.scheduler.finish(part, 100.0)
    house.scheduler.changes.deferred.append(
        (part.message.id, 0, part.lane.id, 500.0, 1, msgspec.msgpack.encode(part.recipients), "x")
    )
    house.scheduler.later(part, 500.0)
    house.commit()
    for now, expected in ((499.0, 0), (500.0, 1)):
        house.scheduler.tick(now)
        house.commit()
        house.scheduler.refill(now)
        assert len(picked(house, now)) == expected


def test_an_idle_destination_goes_back_to_the_store_and_is_found_again(house: House) -> None:
    house.put(b"a", 1)
    (part,) = house.scheduler.pick(100.0)
    house.scheduler.finish(part, 100.0)
    house.scheduler.changes.deferred.append(
        (part.message.id, 0, part.lane.id, 500.0, 1, msgspec.msgpack.encode(part.recipients), "x")
    )
    house.scheduler.later(part, 500.0)
    house.commit()
    house.scheduler.refill(100.0)
    house.scheduler.tick(200.0)
    house.commit()
    assert house.scheduler.lanes() == []
    assert house.store.due_destinations(499.0, 10) == []
    assert [key for _number, key in house.store.due_destinations(500.0, 10)] == [b"a"]
    house.scheduler.tick(501.0)
    house.commit()
    house.scheduler.refill(501.0)
    assert picked(house, 501.0) == [b"a"]


def test_a_destination_without_parts_is_forgotten(house: House) -> None:
    house.put(b"a", 1)
    (part,) = house.scheduler.pick(100.0)
    house.done(part)
    house.commit()
    house.scheduler.refill(100.0)
    house.scheduler.tick(200.0)
    house.commit()
    assert house.store.destination(b"a") is None


def test_an_idle_destination_is_not_forgotten_while_mail_for_it_waits_for_the_commit(house: House) -> None:
    lane = house.put(b"a", 1)
    (part,) = house.scheduler.pick(100.0)
    house.done(part)
    house.commit()
    house.scheduler.refill(100.0)
    assert house.scheduler.lane(b"a", "remote") is lane
    house.scheduler.tick(1000.0)
    assert house.scheduler.lanes() == [lane]


def test_a_paused_destination_gives_its_parts_out_to_be_deferred(house: House) -> None:
    lane = house.put(b"dead", 30)
    lane.unreachable(100.0, "no answer\n")
    assert len(picked(house, 105.0)) == 30


def test_withdrawn_messages_are_not_attempted(house: House) -> None:
    house.put(b"a", 2)
    house.scheduler.withdraw(1)
    assert len(picked(house)) == 1
    assert house.scheduler.is_attempting(2)

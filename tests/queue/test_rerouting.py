"""Queued mail when the routes change: it goes where they say now, once, whatever crashes between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.queue.test_engine import LATER, OK, World, to

from ekiden.base.envelope import Recipient
from ekiden.queue import scheduler
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import StoreFull
from ekiden.settings.schema import Settings

OLD = {b"": b"192.0.2.1"}
NEW = {b"": b"192.0.2.2"}
BOTH = {b"": b"192.0.2.2", b"b.example": b"192.0.2.3"}


def changed(routes: dict[bytes, bytes], **more: Any) -> Settings:
    return Settings(me=b"me", smtproutes=routes, concurrencydestinationstart=20, **more)


def deferred(tmp_path: Path, *recipients: Recipient, **settings: Any) -> World:
    """A world with one message, whose first attempts failed at 1000."""
    world = World(tmp_path, **{"smtproutes": OLD, **settings})
    world.inject(*recipients)
    for part, _ in world.turn():
        world.engine.report(part, [LATER] * len(part.recipients), False, 1000.0)
    assert world.turn() == []
    return world


def attempts(world: World, now: float) -> dict[bytes, list[bytes]]:
    """What is attempted from ``now`` on, by destination; everything is deferred again."""
    found: dict[bytes, list[bytes]] = {}
    for turn in range(4):
        world.engine.tick(now + turn)
        for part, envelope in world.turn(now + turn):
            found.setdefault(part.lane.key, []).extend(one.address for one in envelope.recipients)
            world.engine.report(part, [LATER] * len(part.recipients), False, now + turn)
    return found


def test_a_part_that_is_tried_again_goes_by_the_routes_of_now(tmp_path: Path) -> None:
    world = deferred(tmp_path, to(b"a@a.example"))
    world.engine.configure(changed(NEW))
    assert attempts(world, 1500.0) == {b"[192.0.2.2]:25": [b"a@a.example"]}
    (row,) = world.store.parts(1)
    assert (row.attempts, row.last) == (2, LATER.text)


def test_the_same_after_a_start(tmp_path: Path) -> None:
    world = deferred(tmp_path, to(b"a@a.example"))
    world.store.close()
    again = World(tmp_path, smtproutes=NEW)
    again.store.recover()
    again.engine.recover(1500.0)
    assert attempts(again, 1500.0) == {b"[192.0.2.2]:25": [b"a@a.example"]}


def test_recipients_that_part_are_each_attempted_once_and_the_message_ends_with_the_last(tmp_path: Path) -> None:
    world = deferred(tmp_path, to(b"a@a.example"), to(b"b@b.example"), to(b"c@a.example"))
    world.engine.configure(changed(BOTH))
    expected = {b"[192.0.2.2]:25": [b"a@a.example", b"c@a.example"], b"[192.0.2.3]:25": [b"b@b.example"]}
    assert attempts(world, 1500.0) == expected
    parts = []
    for turn in range(4):
        world.engine.tick(9000.0 + turn)
        parts += [part for part, _ in world.turn(9000.0 + turn)]
    assert len(parts) == 2
    for left, part in zip((1, 0), parts, strict=True):
        world.engine.report(part, [OK] * len(part.recipients), False, 9010.0)
        world.turn(9010.0)
        assert world.store.count() == left
    assert world.logged("end") == [(1,)]


def test_other_parts_of_the_message_that_are_in_flight_do_not_end_it(tmp_path: Path) -> None:
    """One part is being delivered, by a Message that counts two, when the other becomes two."""
    world = World(tmp_path, smtproutes={**OLD, b"c.example": b"192.0.2.9"})
    world.inject(to(b"a@a.example"), to(b"b@b.example"), to(b"c@c.example"))
    parts = {part.lane.key: part for part, _ in world.turn()}
    world.engine.report(parts[b"[192.0.2.1]:25"], [LATER, LATER], False, 1000.0)
    world.turn()
    world.engine.configure(changed({**BOTH, b"c.example": b"192.0.2.9"}))
    world.engine.tick(1500.0)
    world.engine.dispatch(1500.0)
    world.engine.report(parts[b"[192.0.2.9]:25"], [OK], False, 1500.0)
    found = attempts(world, 1500.0)
    assert sorted(address for addresses in found.values() for address in addresses) == [
        b"a@a.example",
        b"b@b.example",
    ]
    assert len(world.store.parts(1)) == 2


def test_a_crash_before_the_commit_leaves_the_part_as_it_was(tmp_path: Path) -> None:
    world = deferred(tmp_path, to(b"a@a.example"), to(b"b@b.example"))
    world.engine.configure(changed(BOTH))
    world.engine.tick(1500.0)
    world.engine.dispatch(1500.0)
    assert len(world.engine.scheduler.changes.deferred) == 2
    assert world.attempts == [], "nothing is attempted before the move is durable"
    world.store._db.close()
    again = World(tmp_path, store=SQLiteStore(tmp_path), smtproutes=OLD)
    again.store.recover()
    assert attempts(again, 1500.0) == {b"[192.0.2.1]:25": [b"a@a.example", b"b@b.example"]}


def test_what_waits_in_memory_moves_when_the_settings_change(tmp_path: Path) -> None:
    world = World(tmp_path, smtproutes=OLD, concurrencydestinationstart=1)
    for number in range(10):
        world.inject(to(b"%d@a.example" % number), to(b"%d@b.example" % number))
    ((first, _),) = world.turn()
    world.engine.configure(changed(BOTH))
    found = attempts(world, 1001.0)
    assert sorted(found[b"[192.0.2.2]:25"]) == sorted(b"%d@a.example" % number for number in range(1, 10))
    assert sorted(found[b"[192.0.2.3]:25"]) == sorted(b"%d@b.example" % number for number in range(1, 10))
    world.engine.report(first, [OK, OK], False, 1005.0)
    world.turn(1005.0)
    assert world.store.count() == 9
    assert [row.part for number in range(2, 11) for row in world.store.parts(number)][::2] == [0] * 9


def test_a_long_backlog_moves_in_bounded_steps(tmp_path: Path) -> None:
    world = World(tmp_path, smtproutes=OLD, activemessages=60)
    world.open = []
    for number in range(400):
        world.inject(to(b"%d@a.example" % number))
    world.turn()
    world.open = ["remote"]
    world.engine.configure(changed(NEW, activemessages=60))
    found: list[bytes] = []
    for turn in range(60):
        world.engine.tick(1000.0 + turn)
        for part, _ in world.turn(1000.0 + turn):
            assert part.lane.key == b"[192.0.2.2]:25"
            found += [one.address for one in part.recipients]
            world.engine.report(part, [OK], False, 1000.0 + turn)
    assert len(found) == len(set(found)) == 400
    world.turn(1100.0)
    assert world.store.count() == 0


def test_a_part_stays_where_it_is_while_the_store_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = deferred(tmp_path, to(b"a@a.example"), to(b"b@b.example"))
    world.engine.configure(changed(BOTH))

    def full() -> int:
        raise StoreFull("no room")

    monkeypatch.setattr(world.store, "new_part_number", full)
    assert attempts(world, 1500.0) == {b"[192.0.2.1]:25": [b"a@a.example", b"b@b.example"]}


def test_mail_that_came_as_remote_stays_remote(tmp_path: Path) -> None:
    """As in qmail: locals and virtualdomains are for what comes in; ``queue requeue`` looks at them again."""
    world = deferred(tmp_path, to(b"a@a.example"))
    world.engine.configure(changed(NEW, locals=frozenset({b"a.example"})))
    assert attempts(world, 1500.0) == {b"[192.0.2.2]:25": [b"a@a.example"]}
    assert world.engine.requeue(1, 9000.0)
    assert attempts(world, 9000.0) == {b"local:a@a.example": [b"a@a.example"]}


@pytest.mark.parametrize("orcpt", [b"", b"rfc822;other@else.example"])
def test_a_virtual_recipient_that_is_requeued_gets_no_second_prefix(tmp_path: Path, orcpt: bytes) -> None:
    virtual = {"virtualdomains": {b"v.example": b"joe-foo"}}
    world = deferred(tmp_path, to(b"info@v.example", orcpt=orcpt), **virtual)
    assert world.engine.requeue(1, 1500.0)
    assert attempts(world, 1500.0) == {b"local:joe-foo-info@v.example": [b"joe-foo-info@v.example"]}


def test_a_virtual_recipient_that_is_requeued_gets_the_prefix_of_now(tmp_path: Path) -> None:
    world = deferred(tmp_path, to(b"info@v.example"), virtualdomains={b"v.example": b"joe-foo"})
    world.engine.configure(changed(OLD, virtualdomains={b"v.example": b"ann"}))
    assert world.engine.requeue(1, 1500.0)
    assert attempts(world, 1500.0) == {b"local:ann-info@v.example": [b"ann-info@v.example"]}


def test_ends_of_a_requeued_message_do_not_take_each_others_place_in_the_ledger(tmp_path: Path) -> None:
    world = World(tmp_path, smtproutes={b"a.example": b"192.0.2.1", b"b.example": b"192.0.2.3"})
    world.inject(to(b"a@a.example"), to(b"b@b.example"))
    for part, _ in world.turn():
        world.engine.report(part, [OK if part.number else LATER], False, 1000.0)
    world.turn()
    assert world.engine.requeue(1, 1001.0)
    ((part, _),) = world.turn(1001.0)
    world.engine.report(part, [OK], False, 1001.0)
    world.turn(1001.0)
    assert len(world.store.ledger(0, 10, 10)) == 2


def test_a_part_without_a_destination_is_routed_anew_at_start(tmp_path: Path) -> None:
    """Nothing else would ever look at it."""
    world = deferred(tmp_path, to(b"a@a.example"), to(b"info@v.example"), virtualdomains={b"v.example": b"joe"})
    world.store._db.connection.execute("DELETE FROM destination")
    world.store.close()
    again = World(tmp_path, smtproutes=OLD, virtualdomains={b"v.example": b"joe"})
    again.store.recover()
    assert again.store.orphans() == [1]
    again.engine.recover(1500.0)
    assert attempts(again, 1500.0) == {
        b"[192.0.2.1]:25": [b"a@a.example"],
        b"local:joe-info@v.example": [b"joe-info@v.example"],
    }
    assert again.store.orphans() == []
    assert len(again.logged("warning")) == 1


def test_a_crowded_house_forgets_no_destination_whose_result_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deferred part had no row yet, and the destination was given up as one with nothing left."""
    monkeypatch.setattr(scheduler, "_LANES", 0)
    world = World(tmp_path, smtproutes=OLD)
    world.inject(to(b"a@a.example"))
    ((part, _),) = world.turn()
    world.engine.report(part, [LATER], False, 1000.0)
    world.engine.dispatch(1000.0)
    world.engine.tick(1000.0)
    world.turn(1000.0)
    assert attempts(world, 1500.0) == {b"[192.0.2.1]:25": [b"a@a.example"]}

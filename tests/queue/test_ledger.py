"""Every accepted recipient comes to exactly one end, which the ledger knows; the audit finds whatever does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.base.envelope import Notify, Origin
from ekiden.base.outcome import Outcome
from ekiden.queue import ledger
from ekiden.queue.audit import Audited, audit
from ekiden.queue.inspect import describe_end
from ekiden.queue.ledger import Entry
from ekiden.queue.store import NO_END, Reach
from ekiden.settings.schema import Settings

from .test_engine import LATER, NEVER, OK, World, to


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def entries(world: World, message: int = 1) -> list[Entry]:
    return [ledger.decode(row[3], *row[:2]) for row in world.store.ledger(message - 1, message, 1000)]


def look(world: World) -> Audited:
    """All of it, page by page, as one."""
    whole, after = Audited(), 0
    while True:
        found = audit(world.store, after, limit=3)
        whole.queued += found.queued
        whole.ended += found.ended
        whole.recipients += found.recipients
        whole.problems += found.problems
        if not found.next:
            return whole
        after = found.next


def attempt(world: World, outcomes: dict[bytes, Outcome], now: float = 1000.0) -> None:
    """A turn, whose attempts end as said, and the turn that records it."""
    for part, _envelope in world.turn(now):
        known = [outcomes.get(recipient.address, OK) for recipient in part.recipients]
        world.engine.report(part, known, False, now)
    world.engine.commit()


def test_a_delivered_message_is_one_entry(world: World) -> None:
    world.inject(to(b"a@example.com"))
    attempt(world, {})
    (entry,) = entries(world)
    assert entry.ends == [
        ledger.End(b"a@example.com", "delivered", "2.0.0", "192.0.2.9 accepted message. Remote host said: 250 ok")
    ]
    assert entry.beginning is not None
    assert entry.beginning.origin == Origin("smtp", 77, 2, "192.0.2.1", b"client")
    assert (entry.beginning.recipients, entry.beginning.birth) == (1, 1000.0)
    assert (look(world).ended, look(world).problems) == (1, [])


def test_ends_at_different_times_are_different_entries(world: World) -> None:
    world.inject(to(b"a@example.com"), to(b"b@example.com"), to(b"c@example.com"))
    attempt(world, {b"b@example.com": LATER, b"c@example.com": NEVER})
    first = [entry for entry in entries(world) if entry.ends]
    assert [(end.recipient, end.end) for end in first[0].ends] == [
        (b"a@example.com", "delivered"),
        (b"c@example.com", "failed"),
    ]
    assert first[0].beginning is None
    assert look(world).problems == []
    world.engine.tick(2000.0)
    attempt(world, {}, 2000.0)
    beginnings = [entry.beginning for entry in entries(world) if entry.beginning]
    assert [beginning.recipients for beginning in beginnings] == [3]
    assert (look(world).recipients, look(world).problems) == (4, [])  # the notice has one


def test_the_sender_was_told(world: World) -> None:
    world.inject(to(b"a@example.com"), to(b"b@example.com", notify=Notify.NEVER))
    attempt(world, {b"a@example.com": NEVER, b"b@example.com": NEVER})
    assert [entry.notice for entry in entries(world) if not entry.ends] == [2]
    assert look(world).problems == []
    world.store._db.connection.execute("DELETE FROM ledger WHERE message = 1 AND part = ?", (ledger.NOTICE,))
    assert look(world).problems == [
        (1, "failed for a recipient, and neither was the sender told nor a triple bounce noted")
    ]


def test_an_administrator_is_named(world: World) -> None:
    for address in (b"a@example.com", b"b@example.com"):
        world.inject(to(address))
    attempt(world, {b"a@example.com": LATER, b"b@example.com": LATER})
    assert world.engine.delete(1, 1001.0, "root")
    assert world.engine.give_up(2, 1001.0, "haruo")
    world.turn(1001.0)
    assert [(end.end, end.report) for end in entries(world)[0].ends] == [("deleted", "deleted by root")]
    assert [(end.end, end.report) for end in entries(world, 2)[0].ends] == [("failed", "returned by haruo")]
    assert look(world).problems == []


def test_no_days_no_ledger(tmp_path: Path) -> None:
    world = World(tmp_path, ledgerdays=0)
    world.inject(to(b"a@example.com"))
    attempt(world, {})
    assert entries(world) == []


def test_without_days_those_who_ended_are_known_while_others_wait(tmp_path: Path) -> None:
    world = World(tmp_path, ledgerdays=0)
    world.inject(to(b"a@a.example"), to(b"no@b.example"), to(b"later@c.example"), to(b"no@d.example"))
    outcomes = {b"no@b.example": NEVER, b"no@d.example": NEVER, b"later@c.example": LATER}
    attempt(world, outcomes)
    attempt(world, outcomes)
    assert (look(world).queued, look(world).problems) == (1, [])
    world.engine.tick(2000.0)
    attempt(world, {}, 2000.0)
    assert (look(world).queued, look(world).problems) == (0, [])
    assert entries(world) == []


def test_old_entries_are_forgotten_in_their_order(world: World) -> None:
    for now in (1000.0, 2000.0, 3000.0):
        world.inject(to(b"a@example.com"), now=now)
        attempt(world, {}, now)
    assert world.store.trim_ledger(2500.0, 1, 3000.0) == 1
    assert world.store.trim_ledger(2500.0, 100, 3000.0) == 1
    assert world.store.trim_ledger(2500.0, 100, 3000.0) == 0
    assert entries(world, 1) == entries(world, 2) == []
    assert len(entries(world, 3)) == 1
    world.engine.tick(3000.0 + 8 * 86_400)
    assert entries(world, 3) == []


def test_how_far_the_ledger_reaches(tmp_path: Path) -> None:
    """Who left and is above ``after`` is in it, from the first message on, whatever is forgotten or switched off."""

    def start(days: int, now: float) -> World:
        world = World(tmp_path, ledgerdays=days)
        world.store.recover()
        world.engine.recover(now)
        return world

    world = start(7, 900.0)
    assert audit(world.store, 0).reach == Reach(0, 0, 900.0)
    for now in (1000.0, 2000.0, 3000.0):
        world.inject(to(b"a@example.com"), now=now)
        attempt(world, {}, now)
    assert world.store.trim_ledger(2500.0, 100, 3000.0) == 2
    assert audit(world.store, 0).reach == Reach(10_000, 2, 900.0)
    world.store.close()
    world = start(0, 4000.0)
    assert audit(world.store, 0).reach == Reach(3, NO_END, 0.0)
    world.inject(to(b"a@example.com"), now=4000.0)
    attempt(world, {}, 4000.0)
    world.engine.configure(msgspec.structs.replace(world.settings, ledgerdays=7))
    world.engine.tick(5000.0)
    assert audit(world.store, 0).reach == Reach(10_003, 4, 5000.0)


DAMAGE = {
    "UPDATE message SET content = zeroblob(length(content)) WHERE id = 1": "another content",
    "UPDATE message SET content = CAST(content || x'00' AS BLOB) WHERE id = 1": "octets of content",
    "UPDATE message SET content = replace(content, 'e', 'E') WHERE id = 1": "another content",
    "DELETE FROM part WHERE message = 1": "more than one end for some",
    "DELETE FROM ledger WHERE message = 1": "no end for some",
    "DELETE FROM destination": "which is not known",
    "DELETE FROM message WHERE id = 1": "part 0 waits for b@example.com, and sender and content are gone",
    "DELETE FROM message": "no beginning",
    "UPDATE part SET message = 7": "gone, and the recipients of its part 0: its check does not fit",
    "UPDATE message SET id = 20000 WHERE id = 1": "has a number that was not given: the last was 10000",
    "UPDATE ledger SET message = 1, part = 9 WHERE message = 2": "entry in the ledger that is not what was written",
    "UPDATE message SET sender = CAST('x@example.org' AS BLOB) WHERE id = 1": "an envelope that is not what came in",
    "UPDATE part SET recipients = CAST(replace(recipients, 'b@', 'x@') AS BLOB)": "not those who came in",
    "UPDATE destination SET key = CAST('x' AS BLOB)": "which is not the one that it was",
}


@pytest.mark.parametrize(("statement", "problem"), DAMAGE.items())
def test_damage_is_found(world: World, statement: str, problem: str) -> None:
    world.inject(to(b"a@example.com"), to(b"b@example.com"))
    attempt(world, {b"b@example.com": LATER})
    world.inject(to(b"c@example.com"))
    attempt(world, {})
    world.inject(to(b"d@example.com"))
    attempt(world, {})
    assert look(world).problems == []
    world.store._db.connection.execute(statement)
    assert any(problem in said for _message, said in look(world).problems), look(world).problems


def write_again(world: World, message: int, entry: Entry, part: int) -> None:
    """As a fault of the engine would have it: the check fits, and what it says is wrong."""
    row = message, part, 9, 1000.0, ledger.encode(entry, message, part)
    world.store._db.connection.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?)", row)


@pytest.mark.parametrize(
    ("whose", "problem"), [(1, "although all its recipients ended"), (3, "left the queue twice")]
)
def test_an_end_too_many_is_found(world: World, whose: int, problem: str) -> None:
    world.inject(to(b"a@example.com"), to(b"b@example.com"))
    attempt(world, {b"b@example.com": LATER})
    for whom in (b"c@example.com", b"d@example.com"):
        world.inject(to(whom))
        attempt(world, {})
    write_again(world, whose, entries(world, 2)[0], 9)
    assert [number for number, said in look(world).problems if problem in said] == [whose]
    assert any("more than one end for some" in said for _number, said in look(world).problems)


def test_an_end_that_is_not_his_is_found(world: World) -> None:
    """One is delivered to twice, and another never: their number is right."""
    world.inject(to(b"a@a.example"), to(b"b@b.example"), to(b"c@a.example"))
    attempt(world, {b"c@a.example": LATER})
    (entry, *_) = entries(world)
    assert look(world).problems == []
    write_again(world, 1, msgspec.structs.replace(entry, ends=[entry.ends[0], entry.ends[0]]), 0)
    world.store._db.connection.execute("DELETE FROM ledger WHERE attempt = 0")
    assert look(world).problems == [
        (
            1,
            "had 3 recipients, of whom 2 ended and 1 wait: not the same who were accepted;"
            " counted more than once: a@a.example",
        )
    ]


def test_it_is_found_after_the_message_has_left(world: World) -> None:
    world.inject(to(b"a@a.example"), to(b"b@b.example"))
    attempt(world, {})
    (entry,) = entries(world)
    swapped = [msgspec.structs.replace(end, recipient=b"x\x1b@a.example") for end in entry.ends]
    write_again(world, 1, msgspec.structs.replace(entry, ends=swapped), 0)
    world.store._db.connection.execute("DELETE FROM ledger WHERE attempt = 0")
    ((_number, said),) = look(world).problems
    assert said.endswith(r"not the same who were accepted; counted more than once: 'x\x1b@a.example'")


def test_who_was_accepted_is_not_known_of_older_messages(world: World) -> None:
    world.inject(to(b"a@a.example"), to(b"b@b.example"))
    attempt(world, {})
    (entry,) = entries(world)
    assert entry.beginning is not None
    swapped = [msgspec.structs.replace(end, recipient=b"x@a.example") for end in entry.ends]
    unknown = msgspec.structs.replace(entry.beginning, whom=0)
    world.store._db.connection.execute("DELETE FROM ledger")
    write_again(world, 1, Entry(swapped, unknown), 0)
    assert look(world).problems == []


def test_a_recipient_who_is_routed_anew_to_another_address_is_the_same(tmp_path: Path) -> None:
    virtual = {"virtualdomains": {b"v.example": b"joe"}, "locals": frozenset({b"me"})}
    world = World(tmp_path, **virtual)
    world.inject(to(b"info@v.example"), to(b"b@b.example"))
    attempt(world, {b"joe-info@v.example": LATER, b"b@b.example": LATER})
    world.engine.configure(Settings(me=b"me", virtualdomains={b"v.example": b"ann"}))
    assert world.engine.requeue(1, 2000.0)
    world.engine.commit()
    assert [one.address for part in world.store.parts(1) for one in part.recipients] == [
        b"ann-info@v.example",
        b"b@b.example",
    ]
    assert look(world).problems == []
    attempt(world, {}, 2000.0)
    assert (look(world).ended, look(world).problems) == (1, [])


def test_a_damaged_end_is_not_told() -> None:
    """The audit tells of it; the others are told."""
    assert describe_end((1, 0, 1000.0, ledger.encode(Entry(), 2, 0))) == {"id": 1, "at": 1000.0, "ends": []}


def test_damage_in_one_message_does_not_hide_another(world: World) -> None:
    for number in range(7):
        world.inject(to(b"%d@example.com" % number))
    attempt(world, {b"%d@example.com" % number: LATER for number in range(7)})
    run = world.store._db.connection.execute
    run("UPDATE message SET sender = CAST('x@example.org' AS BLOB) WHERE id IN (2, 3, 7)")
    run("UPDATE message SET content = zeroblob(length(content)) WHERE id = 6")
    assert sorted(number for number, _said in look(world).problems) == [2, 3, 6, 7]
    assert look(world).queued == 7


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from([OK, LATER, NEVER]), min_size=1, max_size=4), min_size=1, max_size=6))
def test_nothing_is_ever_at_fault(tmp_path_factory: pytest.TempPathFactory, plan: list[list[Outcome]]) -> None:
    world = World(tmp_path_factory.mktemp("queue"))
    outcomes = {}
    for number, ends in enumerate(plan):
        addresses = [b"%d-%d@%d.example" % (number, place, place) for place in range(len(ends))]
        outcomes.update(zip(addresses, ends, strict=True))
        world.inject(*map(to, addresses))
    for now in (1000.0, 5000.0, 50_000.0, 1000.0 + 604_801):
        world.engine.tick(now)
        for _ in range(3):
            attempt(world, outcomes, now)
        assert look(world).problems == []
    assert look(world).queued == 0


def test_entries_of_a_clock_that_was_ahead_do_not_keep_later_ones(world: World) -> None:
    for now in (6e8, 1000.0, 2000.0):
        world.inject(to(b"a@example.com"), now=now)
        attempt(world, {}, now)
    assert world.store.trim_ledger(1500.0, 100, 2000.0) == 0
    assert entries(world, 1), "ended now, as far as anybody can say"
    assert world.store.trim_ledger(2500.0, 100, 3000.0) == 3
    assert entries(world) == []

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from ekiden.base.envelope import Envelope, Notify, Origin, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.base.reply import Reply
from ekiden.queue.attempts import GIVEN_UP
from ekiden.queue.backoff import next_attempt
from ekiden.queue.engine import Engine
from ekiden.queue.intake import Arrival, Foreign
from ekiden.queue.lane import Part
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import Changes, StoreFull
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.client_command import Extensions, rcpt_command

SMTP = Origin("smtp", 77, 2, "192.0.2.1", b"client")
CONTENT = b"Subject: test\r\n\r\nbody\r\n"
ROUTES = {b"": b"192.0.2.9"}
OK = Outcome(Verdict.DELIVERED, "2.0.0", "192.0.2.9 accepted message.\nRemote host said: 250 ok\n")
LATER = Outcome(Verdict.DEFERRED, "4.2.0", "192.0.2.9 does not like recipient.\nRemote host said: 450 later\n")
NEVER = Outcome(Verdict.FAILED, "5.1.1", "192.0.2.9 does not like recipient.\nRemote host said: 550 no\n")


class Journal:
    """Lines as the log would have them, by name."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.lines.append((name, *values))


class World:
    """An engine on a real store, with the delivery side played by the test."""

    def __init__(self, directory: Path, store: SQLiteStore | None = None, **settings: Any) -> None:
        settings = {"me": b"me", "smtproutes": ROUTES, "concurrencydestinationstart": 20, **settings}
        self.settings = Settings(**settings)
        self.store = store or SQLiteStore(directory)
        self.journal = Journal()
        self.attempts: list[tuple[Part, Envelope]] = []
        self.open = ["local", "remote"]
        self.engine = Engine(self.settings, self.store, self.journal, self)
        self.answers: list[int | Reply] = []

    def channels(self) -> list[str]:
        return self.open

    def send(self, part: Part, envelope: Envelope) -> bool:
        self.attempts.append((part, envelope))
        return True

    def inject(
        self, *recipients: Recipient, sender: bytes = b"s@example.org", now: float = 1000.0, **more: Any
    ) -> None:
        envelope = Envelope(sender, list(recipients), **more)
        self.engine.accept(Arrival(envelope, SMTP, CONTENT, "", len(CONTENT)), now, self.answers.append)

    def turn(self, now: float = 1000.0) -> list[tuple[Part, Envelope]]:
        """One turn; the attempts that it started."""
        self.attempts = []
        self.engine.turn(now)
        return self.attempts

    def logged(self, name: str) -> list[tuple[Any, ...]]:
        return [line[1:] for line in self.journal.lines if line[0] == name]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def to(address: bytes, **more: Any) -> Recipient:
    return Recipient(address, **more)


def test_an_accepted_message_is_stored_answered_and_tried_at_once(world: World) -> None:
    world.inject(to(b"a@example.com"))
    assert world.answers == [], "nothing is answered before the commit"
    ((part, envelope),) = world.turn()
    assert world.answers == [1]
    assert (envelope.sender, part.lane.key) == (b"s@example.org", b"[192.0.2.9]:25")
    assert world.store.content(1) == CONTENT
    assert world.logged("info") == [(1, len(CONTENT), b"s@example.org", 77, 2)]
    assert world.logged("starting") == [(1, 1, "remote", b"a@example.com")]


def test_a_message_for_nobody_is_accepted_and_gone(world: World) -> None:
    world.inject()
    assert world.answers == [1]
    assert world.turn() == []
    assert world.store.count() == 0
    assert world.logged("end") == [(1,)]


def test_a_delivered_message_is_gone(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [OK], False, 1001.0)
    world.turn(1001.0)
    assert (world.store.count(), world.store.message(1), world.store.parts(1)) == (0, None, [])
    assert world.logged("result") == [(1, OK)]
    assert world.logged("end") == [(1,)]


def test_recipients_of_one_destination_share_a_transaction(world: World) -> None:
    world.inject(*(to(b"%d@example.com" % n) for n in range(120)))
    sizes = [len(envelope.recipients) for _, envelope in world.turn()]
    assert sizes == [50, 50, 20]


def test_each_local_recipient_stands_alone(tmp_path: Path) -> None:
    world = World(tmp_path, locals=frozenset({b"here"}))
    world.inject(to(b"a@here"), to(b"b@here"))
    assert sorted(part.lane.key for part, _ in world.turn()) == [b"local:a@here", b"local:b@here"]


def test_deferred_recipients_are_tried_again_and_the_others_not(world: World) -> None:
    world.inject(to(b"a@example.com"), to(b"b@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [OK, LATER], False, 1000.0)
    assert world.turn(1000.0) == []
    (row,) = world.store.parts(1)
    assert (row.due, row.attempts, [r.address for r in row.recipients]) == (1400.0, 1, [b"b@example.com"])
    assert row.last == LATER.text
    world.engine.tick(1401.0)
    ((again, envelope),) = world.turn(1401.0)
    assert [r.address for r in envelope.recipients] == [b"b@example.com"]
    world.engine.report(again, [OK], False, 1401.0)
    world.turn(1401.0)
    assert world.store.count() == 0


def test_a_failed_recipient_is_returned_in_the_transaction_that_ends_it(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [NEVER], False, 1001.0)
    ((_notice, envelope),) = world.turn(1001.0)
    assert (envelope.sender, [r.address for r in envelope.recipients]) == (b"", [b"s@example.org"])
    assert world.store.message(1) is None
    content = world.store.content(2)
    assert content is not None
    assert b"<a@example.com>:" in content
    assert b"Subject: test" in content
    assert world.logged("bounce") == [(1, 2)]


def test_failures_of_one_message_share_a_notice(world: World) -> None:
    world.engine.configure(Settings(me=b"me", smtproutes={b"x": b"192.0.2.1", b"y": b"192.0.2.2"}))
    world.inject(to(b"a@x"), to(b"b@y"))
    first, second = (part for part, _ in world.turn())
    world.engine.report(first, [NEVER], False, 1001.0)
    assert world.turn(1001.0) == []
    assert world.store.unnotified() == [1], "the failure is on disk before the notice is made"
    world.engine.report(second, [NEVER], False, 1002.0)
    world.turn(1002.0)
    content = world.store.content(2) or b""
    assert b"<a@x>:" in content
    assert b"<b@y>:" in content
    assert world.store.count() == 1


def test_a_notice_that_a_crash_prevented_is_made_at_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.configure(Settings(me=b"me", smtproutes={b"x": b"192.0.2.1", b"y": b"192.0.2.2"}))
    world.inject(to(b"a@x"), to(b"b@y"))
    first, _second = (part for part, _ in world.turn())
    world.engine.report(first, [NEVER], False, 1001.0)
    world.turn(1001.0)
    world.store.close()
    again = World(tmp_path)
    again.store.recover()
    again.engine.recover(1002.0)
    again.turn(1002.0)
    assert again.store.unnotified() == []
    assert again.logged("bounce")[0][0] == 1


def test_what_waits_at_the_start_is_tried_at_once(world: World, tmp_path: Path) -> None:
    world.inject(to(b"a@example.com"))
    world.turn()
    world.store.close()
    again = World(tmp_path)
    again.store.recover()
    again.engine.recover(1000.0)
    assert [part.message.id for part, _ in again.turn()] == [1]


def test_a_message_past_its_lifetime_is_given_up(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [LATER], False, 1000.0 + 604801)
    world.turn(1000.0 + 604801)
    assert world.store.message(1) is None
    assert b"in the queue too long" in (world.store.content(2) or b"")
    ((_delivery, told),) = world.logged("result")
    assert told.verdict == Verdict.FAILED and told.text == LATER.text + GIVEN_UP, "the log calls it a failure"


def test_the_last_words_to_an_old_message_are_not_said_to_those_behind_it(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.inject(to(b"b@example.com"), now=1000.0 + 604800)
    world.engine.report(part, [LATER], True, 1000.0 + 604801)
    world.turn(1000.0 + 604801)
    assert world.logged("result")[1][1].text == LATER.text


def test_status_lines_say_that_no_new_deliveries_are_started(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.stopping = True
    world.engine.report(part, [OK], False, 1000.0)
    assert world.logged("status") == [(0, 10, 1, 20, False), (0, 10, 0, 20, True)]


def test_the_null_sender_gets_a_double_bounce_to_postmaster_and_that_is_the_end(world: World) -> None:
    world.inject(to(b"a@example.com"), sender=b"")
    ((part, _),) = world.turn()
    world.engine.report(part, [NEVER], False, 1001.0)
    ((second, envelope),) = world.turn(1001.0)
    assert (envelope.sender, [r.address for r in envelope.recipients]) == (b"#@[]", [b"postmaster@me"])
    world.engine.report(second, [NEVER], False, 1002.0)
    world.turn(1002.0)
    assert world.store.count() == 0
    assert world.logged("discarding") == [(2, "triple")]


def test_without_a_user_for_them_double_bounces_are_thrown_away(tmp_path: Path) -> None:
    world = World(tmp_path, doublebounceto=b"")
    world.inject(to(b"a@example.com"), sender=b"")
    ((part, _),) = world.turn()
    world.engine.report(part, [NEVER], False, 1001.0)
    assert world.turn(1001.0) == []
    assert world.store.count() == 0
    assert world.logged("discarding") == [(1, "double")]


def test_a_notice_bears_the_qp_of_the_line_that_says_why_it_came(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [NEVER], False, 1001.0)
    world.turn(1001.0)
    ((_number, qp),) = world.logged("bounce")
    assert world.logged("info")[1][3] == qp
    assert (world.store.content(2) or b"").startswith(b"Received: (qmail %d invoked for bounce); " % qp)


@pytest.mark.parametrize(
    ("notify", "outcome", "notices"),
    [
        (Notify.DEFAULT, OK, 0),
        (Notify.SUCCESS, OK, 1),
        (Notify.SUCCESS, NEVER, 0),
        (Notify.FAILURE, NEVER, 1),
        (Notify.NEVER, NEVER, 0),
    ],
)
def test_notices_are_sent_as_asked(world: World, notify: Notify, outcome: Outcome, notices: int) -> None:
    world.inject(to(b"a@example.com", notify=int(notify)))
    ((part, _),) = world.turn()
    world.engine.report(part, [outcome], False, 1001.0)
    world.turn(1001.0)
    assert world.store.count() == notices


@pytest.mark.parametrize(("delaynotice", "notices"), [(14_400, 1), (1, 1), (0, 0)])
def test_a_delay_is_told_once_and_only_if_asked_for(tmp_path: Path, delaynotice: int, notices: int) -> None:
    world = World(tmp_path, delaynotice=delaynotice)
    world.inject(to(b"a@example.com", notify=int(Notify.DELAY)), to(b"b@example.com"))
    now = 1000.0
    for _ in range(12):
        world.engine.tick(now)
        while attempts := world.turn(now):
            for part, envelope in attempts:
                outcome = LATER if envelope.sender else OK
                world.engine.report(part, [outcome] * len(envelope.recipients), False, now)
        (row,) = world.store.parts(1)
        assert row.due is not None
        now = row.due
    assert now > 1000 + 14_400
    assert len(world.logged("bounce")) == notices
    asked = rcpt_command(row.recipients[0], Extensions(dsn=True))
    assert asked == b"RCPT TO:<a@example.com> NOTIFY=DELAY\r\n", "what the next hop is asked for does not change"


def test_a_destination_that_cannot_be_reached_rests(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [LATER], True, 1000.0)
    world.inject(to(b"b@example.com"))
    assert world.turn(1001.0) == [], "deferred at once, nobody is bothered"
    assert world.logged("result")[-1][1].text == LATER.text
    world.inject(to(b"c@example.com"))
    assert len(world.turn(1011.0)) == 1, "after the pause one is tried"


def test_what_was_too_much_at_once_is_tried_again_soon(world: World) -> None:
    world.inject(to(b"a@example.com"))
    world.inject(to(b"b@example.com"))
    (first, _), (second, _) = world.turn()
    world.engine.report(first, [LATER], True, 1000.0)
    world.engine.report(second, [LATER], True, 1000.0)
    assert world.turn(1000.0) == []
    assert [world.store.parts(number)[0].due for number in (1, 2)] == [1001.0, 1400.0]


@pytest.mark.parametrize(("first", "due"), [(OK, 1001.0), (LATER, 1400.0)])
def test_recipients_that_were_too_many_get_a_transaction_soon(world: World, first: Outcome, due: float) -> None:
    too_many = Outcome(Verdict.DEFERRED, "4.5.3", "too many\n", "mx", "452 4.5.3 too many recipients")
    world.inject(to(b"a@example.com"), to(b"b@example.com"))
    ((part, _),) = world.turn()
    world.engine.report(part, [first, too_many], False, 1000.0)
    world.turn()
    (row,) = world.store.parts(1)
    assert row.due == due


def test_what_a_lost_process_had_in_hand_is_tried_again_soon(world: World) -> None:
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    world.engine.lost(part, 1000.0)
    world.turn(1000.0)
    (row,) = world.store.parts(1)
    assert row.due == 1001.0


def test_nothing_is_started_while_nobody_is_there_to_deliver(world: World) -> None:
    world.open = []
    world.inject(to(b"a@example.com"))
    assert world.turn() == []
    world.open = ["remote"]
    assert len(world.turn()) == 1


class FullStore(SQLiteStore):
    """A store on a device that is full while ``full`` is set."""

    full = False

    def apply(self, results: Changes, intake: Changes | None = None) -> None:
        if self.full:
            raise StoreFull("disk is full")
        super().apply(results, intake)


def test_a_full_device_refuses_new_mail_and_keeps_results(tmp_path: Path) -> None:
    store = FullStore(tmp_path)
    world = World(tmp_path, store=store)
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn()
    store.full = True
    world.engine.report(part, [OK], False, 1001.0)
    world.inject(to(b"b@example.com"))
    assert world.turn(1001.0) == []
    refusal = world.answers[-1]
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.status) == (452, "4.3.1")
    store.full = False
    world.turn(1002.0)
    assert store.count() == 0, "the delivery was recorded when there was room again"
    world.inject(to(b"c@example.com"))
    assert len(world.turn(1003.0)) == 1


def test_verp_senders_are_made_for_each_recipient(world: World) -> None:
    world.inject(to(b"a@x.org"), to(b"b@y.org"), sender=b"list-@host-@[]")
    assert sorted(envelope.sender for _, envelope in world.turn()) == [b"list-a=x.org@host", b"list-b=y.org@host"]


def test_an_administrator_bounces_and_requeues(world: World) -> None:
    world.inject(to(b"a@example.com"), to(b"b@example.com"))
    ((part, _),) = world.turn()
    assert not world.engine.give_up(1, 1000.0), "it is being delivered"
    world.engine.report(part, [LATER, LATER], False, 1000.0)
    world.turn(1000.0)
    world.engine.configure(Settings(me=b"me", smtproutes={b"": b"192.0.2.10"}))
    assert world.engine.requeue(1, 1001.0)
    ((part, _),) = world.turn(1001.0)
    assert part.lane.key == b"[192.0.2.10]:25"
    world.engine.report(part, [LATER, LATER], False, 1001.0)
    world.turn(1001.0)
    assert world.engine.give_up(1, 1002.0)
    world.turn(1002.0)
    assert world.store.message(1) is None
    assert world.logged("end") == [(1,)]


def test_a_notice_whose_lane_is_looked_at_before_its_commit_is_not_stranded(world: World) -> None:
    """Found in review: a tick between the failure's report and its commit forgot the notice's destination."""
    world.inject(to(b"a@example.com"), sender=b"s@local")
    world.engine.configure(Settings(me=b"me", smtproutes={b"local": b"192.0.2.7", b"": b"192.0.2.9"}))
    ((part, _),) = world.turn(1000.0)
    world.engine.report(part, [NEVER], False, 1000.0)
    world.engine.dispatch(1000.0)
    world.engine.tick(1000.0)
    ((notice, _),) = world.turn(1000.0)
    world.engine.report(notice, [LATER], False, 1000.0)
    world.turn(1000.0)
    world.engine.tick(1401.0)
    assert len(world.turn(1401.0)) == 1


def test_mail_that_comes_between_forgetting_a_destination_and_the_commit(world: World) -> None:
    """Found in review: the destination's row was deleted in the transaction that stored its new part."""
    world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn(1000.0)
    world.engine.report(part, [OK], False, 1000.0)
    world.turn(1000.0)
    world.engine.tick(1100.0)
    world.inject(to(b"b@example.com"), now=1100.0)
    world.turn(1100.0)
    (row,) = world.store.parts(2)
    assert world.store.destination_key(row.destination) == b"[192.0.2.9]:25"


def test_what_an_administrator_takes_away_does_not_strand_the_rest(tmp_path: Path) -> None:
    """Found in review: with all parts at hand withdrawn, nothing fetched the others from the store."""
    world = World(tmp_path, activemessages=10, concurrencydestinationstart=1)
    for _ in range(100):
        world.inject(to(b"a@example.com"))
    ((part, _),) = world.turn(1000.0)
    world.turn(1000.0)
    at_hand = [number for number in range(1, 101) if world.engine.scheduler.known(number)]
    world.engine.report(part, [OK], False, 1000.0)
    for number in at_hand:
        world.engine.delete(number, 1000.0)
    assert world.turn(1001.0) or world.turn(1002.0)


def test_a_size_that_the_store_cannot_hold_spoils_nothing(world: World) -> None:
    envelope = Envelope(b"s@example.org", [to(b"a@example.com")])
    world.engine.accept(Arrival(envelope, SMTP, b"", "name", 1 << 63), 1000.0, world.answers.append)
    with pytest.raises(OverflowError):
        world.turn()
    assert not world.store._db.connection.in_transaction


def take_over(world: World, key: bytes, held: bool = False) -> None:
    envelope = Envelope(b"s@example.org", [to(b"a@example.com", notify=Notify.NEVER), to(b"b@elsewhere.example")])
    foreign = Foreign(key, 400.0, held)
    world.engine.take_over(foreign, Arrival(envelope, SMTP, CONTENT, "", len(CONTENT)), world.answers.append)


def test_a_message_taken_over_keeps_its_age_and_recipients(world: World) -> None:
    take_over(world, b"key")
    assert world.answers == []
    ((part, envelope),) = world.turn()
    assert [one.notify for one in envelope.recipients] == [Notify.NEVER, Notify.DEFAULT]
    row = world.store.message(1)
    assert row is not None
    assert (row.birth, row.meta.recipients, row.meta.checksum) == (400.0, 2, crc32(CONTENT))
    world.engine.report(part, [LATER, OK], False, 1000.0)
    world.turn()
    assert world.store.parts(1)[0].due == next_attempt(400.0, 1000.0, 20)


def test_a_message_is_taken_over_once_even_when_it_is_gone(world: World, tmp_path: Path) -> None:
    take_over(world, b"key")
    ((part, _),) = world.turn()
    world.engine.report(part, [OK, OK], False, 1001.0)
    world.turn(1001.0)
    take_over(world, b"key")
    take_over(world, b"other")
    world.turn(1002.0)
    assert world.answers == [1, 1, 2]
    world.store.close()
    again = World(tmp_path)
    take_over(again, b"key")
    assert again.answers == [1]


def test_a_message_taken_over_on_hold_waits_to_be_released(world: World, tmp_path: Path) -> None:
    take_over(world, b"key", held=True)
    assert world.turn() == []
    row = world.store.message(1)
    assert row is not None
    assert row.held
    world.store.close()
    again = World(tmp_path)
    again.store.recover()
    assert again.turn(5000.0) == []
    again.engine.scheduler.wake_all()
    again.store.release(1, 5001.0)
    again.engine.tick(5002.0)
    ((_, envelope),) = again.turn(5002.0)
    assert len(envelope.recipients) == 2


def test_what_does_not_fit_is_not_known_by_its_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = world.store.apply

    def full(results: Changes, intake: Changes | None = None) -> None:
        if intake is not None:
            raise StoreFull("no room")
        real(results)

    monkeypatch.setattr(world.store, "apply", full)
    take_over(world, b"key")
    world.turn()
    assert isinstance(world.answers[0], Reply)
    assert world.store.foreign(b"key") is None


YEARS = 20 * 365 * 86_400.0


def test_mail_deferred_by_a_clock_that_was_ahead_is_seen_and_ages_from_now_on(world: World) -> None:
    world.inject(to(b"a@example.com"), now=YEARS)
    [(part, _envelope)] = world.turn(YEARS)
    world.engine.report(part, [LATER], False, YEARS + 1)
    world.turn(YEARS + 1)
    assert not world.engine.is_misdated(YEARS + 2)
    assert world.engine.is_misdated(1000.0)
    world.store.flush(1000.0, 0)
    world.engine.scheduler.wake_all()
    [(part, _envelope)] = world.turn(1000.0)
    world.engine.report(part, [LATER], False, 1000.0)
    world.turn(1000.0)
    assert not world.engine.is_misdated(1000.0)
    row = world.store.message(1)
    assert row is not None
    assert row.birth == 1000.0
    assert [part.due for part in world.store.parts(1)] == [1400.0]


def test_mail_before_a_leap_of_the_clock_gets_one_more_attempt_and_then_a_bounce(world: World) -> None:
    world.inject(to(b"a@example.com"), now=1000.0)
    [(part, _envelope)] = world.turn(1000.0)
    world.engine.report(part, [LATER], False, 1001.0)
    world.turn(1001.0)
    world.engine.tick(YEARS)
    [(part, _envelope)] = world.turn(YEARS)
    world.engine.report(part, [LATER], False, YEARS)
    [(_part, bounce)] = world.turn(YEARS)
    assert bounce.sender == b""
    assert [one.address for one in bounce.recipients] == [b"s@example.org"]


def test_the_ledger_is_trimmed_though_the_clock_was_set_back(world: World) -> None:
    world.engine.tick(YEARS)
    world.inject(to(b"a@example.com"), now=1000.0)
    [(part, _envelope)] = world.turn(1000.0)
    world.engine.report(part, [OK], False, 1000.0)
    world.turn(1000.0)
    assert world.store.ledger(0, 100, 10)
    world.engine.tick(1000.0 + 8 * 86_400)
    assert world.store.ledger(0, 100, 10) == []

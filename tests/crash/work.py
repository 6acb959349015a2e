"""The kinds of work that are crashed at every point: what is there before, and what is then done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash.desk import FIRST, MIDDLE, START, Books, Desk, Tell, settle, size_of
from tests.peers.accounting import Ledger

from ekiden.base.envelope import Notify, Recipient

DAY = 86_400.0
KEY = "other queue"
"""Of a message taken over."""


def _nothing_to_see(_desk: Desk, _told: list[str]) -> str:
    return ""


@dataclass(frozen=True)
class Work:
    """``sent``: the numbers of the messages in all. ``check``: what is wrong with the queue as it was found after the
    crash, given what was told."""

    prepare: Callable[[Path, Tell], None]
    act: Callable[[Path, Tell], None]
    sent: tuple[int, ...] = (1,)
    check: Callable[[Desk, list[str]], str] = _nothing_to_see
    foreign: str = ""

    def finish(self, directory: Path, told: list[str]) -> Books:
        return settle(directory, told, self.ledger(), self.check, self.foreign)

    def ledger(self) -> Ledger:
        ledger = Ledger()
        for number in self.sent:
            ledger.compose(number, size_of(number))
        return ledger


def to(address: bytes, notify: int = Notify.DEFAULT) -> Recipient:
    return Recipient(address, notify)


OTHER = (to(FIRST),)
LATE = to(b"later@example.com")
REFUSED = to(b"no@example.com")


def empty(directory: Path, tell: Tell) -> None:
    Desk(directory, tell).store.close()


def absent(_directory: Path, _tell: Tell) -> None:
    """Not even a store."""


def waiting(*recipients: Recipient, number: int = 1) -> Callable[[Path, Tell], None]:
    """One message, accepted and never attempted."""

    def prepare(directory: Path, tell: Tell) -> None:
        desk = Desk(directory, tell)
        desk.inject(number, *recipients, size=size_of(number))
        desk.commit()
        desk.store.close()

    return prepare


def deferred(*recipients: Recipient) -> Callable[[Path, Tell], None]:
    """One message, whose first attempt was put off."""

    def prepare(directory: Path, tell: Tell) -> None:
        desk = Desk(directory, tell)
        desk.inject(1, *recipients)
        desk.round()
        desk.store.close()

    return prepare


def inject(*numbers: int, foreign: str = "") -> Callable[[Path, Tell], None]:
    """Take these in, in one turn."""

    def act(directory: Path, tell: Tell) -> None:
        desk = Desk(directory, tell)
        for number in numbers:
            desk.inject(number, *OTHER, size=size_of(number), foreign=foreign)
        desk.commit()

    return act


def attempt(later: float = 500.0) -> Callable[[Path, Tell], None]:
    """What is due so much later is attempted, its result recorded, and notices that come of it too."""

    def act(directory: Path, tell: Tell) -> None:
        if later > 7 * DAY:
            tell("expired")
        desk = Desk(directory, tell, START + later)
        for _ in range(3):
            desk.engine.tick(desk.now)
            desk.round()

    return act


def administer(what: Callable[[Desk], object], done: str) -> Callable[[Path, Tell], None]:
    """As the queue role carries out a request of its control socket."""

    def act(directory: Path, tell: Tell) -> None:
        desk = Desk(directory, tell)
        if not desk.commit():
            return
        what(desk)
        if desk.commit():
            tell(done)

    return act


def hold_and_release(desk: Desk) -> None:
    desk.store.hold(1)
    desk.tell("held")
    desk.store.release(1, desk.now)


def delete(desk: Desk) -> None:
    # Whoever asked for it knows that it may be gone from now on.
    desk.tell("deleted 1@load.example")
    desk.engine.delete(1, desk.now, "root")


def checkpoint(directory: Path, tell: Tell) -> None:
    """Turns with a log so small that each is written back."""
    desk = Desk(directory, tell, pages=16)
    for number in range(1, 5):
        desk.inject(number, *OTHER)
        desk.round()


def segments(directory: Path, tell: Tell) -> None:
    """Turns with segments of two contents each: they are filled, used again, and kept for what is put off."""
    desk = Desk(directory, tell, segment_octets=2 * MIDDLE + 8192)
    for number in range(51, 58):
        desk.inject(number, LATE if number == 52 else OTHER[0], size=MIDDLE)
        desk.round()
    desk.inject(58, LATE, size=MIDDLE)
    desk.inject(59, LATE, size=MIDDLE)
    desk.commit()
    desk.deferring = False
    desk.now += 500
    desk.engine.tick(desk.now)
    desk.round()


def close(directory: Path, tell: Tell) -> None:
    """Take one in and end in order."""
    desk = Desk(directory, tell)
    desk.inject(1, *OTHER)
    desk.commit()
    desk.store.close()


def earlier(directory: Path, tell: Tell) -> None:
    """A store as the first version of the tables had it, with one message waiting."""
    deferred(to(b"later@example.com"))(directory, tell)
    db = sqlite3.connect(directory / "queue.sqlite", isolation_level=None)
    db.executescript(
        "ALTER TABLE destination DROP COLUMN seal;"
        "ALTER TABLE message DROP COLUMN segment; ALTER TABLE message DROP COLUMN at;"
        "ALTER TABLE message DROP COLUMN destination; ALTER TABLE message DROP COLUMN recipients;"
        "DROP TABLE foreign_message; PRAGMA user_version = 1;"
    )
    db.close()


def upgrade(directory: Path, tell: Tell) -> None:
    Desk(directory, tell).store.close()
    tell("upgraded")


def is_held(desk: Desk, told: list[str]) -> str:
    row = desk.store.message(1)
    if row is None:
        return "the message is gone"
    if row.held != (desk.store.parts(1)[0].due is None):
        return "neither held nor released"
    return "held" if told[-1] == "released" and row.held else ""


def is_gone(desk: Desk, told: list[str]) -> str:
    return "still there" if told[-1] == "done" and desk.store.message(1) else ""


KINDS: dict[str, Work] = {
    "first start": Work(absent, inject(1)),
    "intake, small": Work(empty, inject(1)),
    "intake, large": Work(empty, inject(9), (9,)),
    "intake, in a segment": Work(empty, inject(5), (5,)),
    "intake, a group": Work(empty, inject(1, 2, 5, 9), (1, 2, 5, 9)),
    "take over": Work(empty, inject(1, foreign=KEY), foreign=KEY),
    "delivery": Work(waiting(*OTHER), attempt()),
    "delivery, large": Work(waiting(*OTHER, number=9), attempt(), (9,)),
    "delivery, from a segment": Work(waiting(*OTHER, number=5), attempt(), (5,)),
    "segments": Work(empty, segments, tuple(range(51, 60))),
    "deferral": Work(waiting(LATE), attempt()),
    "several ends": Work(waiting(to(b"a@example.com"), LATE, REFUSED), attempt()),
    "bounce": Work(waiting(REFUSED), attempt()),
    "delay notice": Work(deferred(to(b"later@example.com", Notify.DELAY | Notify.FAILURE)), attempt(DAY)),
    "expiry": Work(deferred(LATE), attempt(8 * DAY)),
    "hold, release": Work(deferred(LATE), administer(hold_and_release, "released"), check=is_held),
    "delete": Work(deferred(LATE), administer(delete, "done"), check=is_gone),
    "requeue": Work(deferred(LATE), administer(lambda desk: desk.engine.requeue(1, desk.now), "done")),
    "give up": Work(
        deferred(LATE), administer(lambda desk: desk.engine.give_up(1, desk.now, "root"), "done"), check=is_gone
    ),
    "checkpoint": Work(empty, checkpoint, (1, 2, 3, 4)),
    "orderly end": Work(empty, close),
    "schema upgrade": Work(earlier, upgrade),
}

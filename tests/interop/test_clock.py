"""The clock leaps while ekiden runs, and between two starts: nothing is lost, and nothing waits for another time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.peers.clock import Clock
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.processes import kill, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

DAY = 86_400
YEARS = 20 * 365 * DAY
CONTENT = b"Message-ID: <1@clock.example>\r\nSubject: t\r\n\r\nhello\r\n"
LATER = ("--reply", "RCPT=451 4.3.0 later")


@pytest.fixture
def clock(place: Path) -> Clock:
    return Clock(place)


@pytest.fixture
def home(place: Path, clock: Clock) -> Iterator[Ekiden]:
    ekiden = Ekiden(place, environment=clock.environment)
    ekiden.configure()
    yield ekiden
    ekiden.stop()


def send(ekiden: Ekiden, recipient: str = "b@b.example", sender: str = "a@a.example") -> None:
    with dialogue(ekiden.port) as talk:
        assert talk.message(CONTENT, sender, recipient)[0] == "2"


def attempts(ekiden: Ekiden) -> list[int]:
    return [recipient["attempts"] for message in ekiden.queue() for recipient in message["recipients"]]


def is_sound(ekiden: Ekiden) -> bool:
    """Whether the books balance and no role has died."""
    found = ekiden.command("audit", check=False)
    return found.returncode == 0 and "ended (" not in ekiden.log() and "Traceback" not in ekiden.log()


@pytest.mark.parametrize("back", [DAY, YEARS])
def test_set_back_while_mail_is_deferred(
    home: Ekiden, clock: Clock, make_sink: Callable[..., Sink], back: int
) -> None:
    sink = make_sink(*LATER)
    home.routes(f":{sink.route}")
    home.start()
    send(home)
    wait_until(lambda: attempts(home) == [1], "deferred")
    sink.stop()
    sink.start("--delay", "CONNECT=0")
    clock.set(-back)
    sink.wait_for(1)
    send(home)
    sink.wait_for(2)
    wait_until(lambda: home.queue() == [], "the queue is empty")
    wait_until(lambda: "the clock was set back" in home.log(), "it is told")
    assert is_sound(home)


def test_set_back_between_two_starts(home: Ekiden, clock: Clock, make_sink: Callable[..., Sink]) -> None:
    sink = make_sink(*LATER)
    home.routes(f":{sink.route}")
    clock.set(YEARS)
    home.start()
    send(home)
    wait_until(lambda: attempts(home) == [1], "deferred")
    home.stop()
    clock.set(0)
    home.start()
    wait_until(lambda: attempts(home) == [2], "tried again, and deferred as any other")
    (message,) = home.queue()
    assert message["birth"] < time.time() + DAY
    sink.stop()
    sink.start("--delay", "CONNECT=0")
    home.command("queue", "flush")
    sink.wait_for(1)
    wait_until(lambda: home.queue() == [], "the queue is empty")
    assert is_sound(home)


def test_a_leap_ahead_ends_what_waits_by_one_more_attempt(
    home: Ekiden, clock: Clock, make_sink: Callable[..., Sink], sink: Sink
) -> None:
    later = make_sink(*LATER)
    home.routes(f"b.example:{later.route}", f":{sink.route}")
    maildir = home.make_inbox("haruo")
    home.start()
    send(home)
    wait_until(lambda: attempts(home) == [1], "deferred")
    clock.set(YEARS)
    (bounce,) = sink.wait_for(1)
    assert b"too long" in bounce.content
    for leap in (YEARS, 0, -YEARS, DAY):
        clock.set(leap)
        send(home, f"haruo@{home.fqdn}")
    wait_until(lambda: len(list((maildir / "new").iterdir())) == 4, "all delivered, each under a name of its own")
    wait_until(lambda: home.queue() == [], "the queue is empty")
    assert is_sound(home)


def test_a_role_that_dies_is_started_again_though_the_clock_was_set_back(
    home: Ekiden, clock: Clock, sink: Sink
) -> None:
    home.routes(f":{sink.route}")
    home.start()
    for back in (DAY, 2 * DAY, 3 * DAY):
        (victim,) = [pid for pid, role in home.roles().items() if role == "queue"]
        kill(victim)
        clock.set(-back)
        wait_until(lambda gone=victim: "queue" in home.roles().values() and gone not in home.roles(), "a new one")
        send(home)
    sink.wait_for(3)

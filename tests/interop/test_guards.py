"""Mail that goes in circles and programs that do what none should: the documented comes of it, others are served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden, let_everyone_run
from tests.peers.processes import short_directory, wait_until
from tests.peers.sinks import Sink

from ekiden.installation.scripts import write_bin

pytestmark = pytest.mark.slow

CONTENT = b"Subject: t\r\n\r\nhello\r\n"


@pytest.fixture
def home(home: Ekiden, sink: Sink) -> Ekiden:
    """Bounces go to the sink; ``haruo`` is somebody who behaves."""
    home.routes(f"sender.example:{sink.route}")
    home.make_inbox("haruo")
    write_bin(home.home)
    let_everyone_run(home.home / "bin")
    return home


def user(ekiden: Ekiden, name: str, *lines: str) -> None:
    """A local user with this .qmail file."""
    (ekiden.make_inbox(name).parent / ".qmail").write_text("".join(f"{line}\n" for line in lines))


def send(ekiden: Ekiden, *names: str) -> None:
    with dialogue(ekiden.port) as talk:
        for name in names:
            recipient = name if "@" in name else f"{name}@{ekiden.fqdn}"
            assert talk.message(CONTENT, "a@sender.example", recipient)[0] == "2"


def inbox(ekiden: Ekiden, name: str) -> list[Path]:
    return list((ekiden.home.parent / f"user-{name}" / "Maildir" / "new").iterdir())


def serves_others(ekiden: Ekiden) -> None:
    before = len(inbox(ekiden, "haruo"))
    send(ekiden, "haruo")
    wait_until(lambda: len(inbox(ekiden, "haruo")) == before + 1, "haruo has mail")


def bounce(ekiden: Ekiden, sink: Sink) -> str:
    """The only bounce, when the queue is empty after it."""
    (message,) = sink.wait_for(1)
    wait_until(lambda: ekiden.queue() == [], "the queue is empty")
    assert len(sink.received()) == 1
    return message.content.decode("latin-1")


def deferred(ekiden: Ekiden, text: str) -> bool:
    return any(text in str(message) for message in ekiden.queue())


@pytest.mark.parametrize(
    "files",
    [
        {"ichi": "&ichi@ekiden.example"},
        {"ichi": "&ni@ekiden.example", "ni": "&san@ekiden.example", "san": "&ichi@ekiden.example"},
        {"ichi": "|forward ichi@ekiden.example"},
        {"ichi": "|forward ni@ekiden.example", "ni": "&ichi@ekiden.example"},
    ],
    ids=["itself", "circle", "program", "program-and-forward"],
)
def test_mail_in_a_circle_comes_back_to_its_sender(home: Ekiden, sink: Sink, files: dict[str, str]) -> None:
    for name, line in files.items():
        user(home, name, line)
    home.start()
    send(home, "ichi")
    assert "5.4.6" in bounce(home, sink)
    serves_others(home)


def test_an_alias_that_doubles_mail_to_itself_ends(home: Ekiden, sink: Sink) -> None:
    """Two copies to oneself, each: were they not recognised, there would be 2 to the power of hopsmax."""
    user(home, "ichi", "&ichi@ekiden.example", "&ichi@ekiden.example", "./Maildir/")
    home.start()
    send(home, "ichi")
    assert "5.4.6" in bounce(home, sink)
    assert len(inbox(home, "ichi")) == 1


@pytest.fixture
def other() -> Iterator[Ekiden]:
    with short_directory("other") as place:
        ekiden = Ekiden(place, "other.example")
        ekiden.configure()
        yield ekiden
        ekiden.stop()


def test_a_loop_between_two_homes_ends_after_hopsmax(home: Ekiden, other: Ekiden, sink: Sink) -> None:
    for here, there in ((home, other), (other, home)):
        here.routes(f"sender.example:{sink.route}", f"loop.example:[127.0.0.1]:{there.port}")
        here.control("hopsmax", "20")
        here.start()
    send(home, "b@loop.example")
    text = bounce(home, sink)
    assert "5.4.6" in text
    assert 10 <= text.count("\nReceived: from") <= 21
    wait_until(lambda: other.queue() == [], "the other queue is empty")


def test_programs_without_end_hold_up_nobody_else(home: Ekiden) -> None:
    home.control("programseconds", "4")
    home.control("shutdownseconds", "1")
    user(home, "ichi", "|trap '' TERM HUP INT; sleep 1000 & wait; sleep 1000")
    home.start()
    send(home, *["ichi"] * 15)
    serves_others(home)
    wait_until(lambda: deferred(home, "took too long"), "ended, and deferred")
    serves_others(home)


def test_a_program_that_prints_without_measure_is_heard_in_part(home: Ekiden, sink: Sink) -> None:
    user(home, "ichi", "|head -c 200000000 /dev/zero | tr '\\0' x; exit 100")
    home.start()
    send(home, "ichi")
    text = bounce(home, sink)
    assert "xxxx" in text
    assert len(text) < 20_000
    serves_others(home)


def test_a_program_whose_children_stay_has_delivered(home: Ekiden) -> None:
    """They keep its output open, in sessions of their own."""
    user(home, "ichi", "|for i in 1 2 3 4 5 6 7 8 9; do setsid sh -c 'trap \"\" TERM; sleep 60; :' & done; exit 0")
    home.start()
    send(home, *["ichi"] * 5)
    wait_until(lambda: home.queue() == [], "the queue is empty")
    serves_others(home)


@pytest.mark.parametrize(
    ("command", "report"),
    [
        ("kill -9 $$", "signal 9"),
        ("kill -STOP $$", "took too long"),
        ("kill -9 $PPID; sleep 5", "crashed"),
        ("kill -9 0", "signal 9"),
    ],
    ids=["itself", "stopped", "parent", "group"],
)
def test_killed_programs_defer(home: Ekiden, command: str, report: str) -> None:
    if report == "took too long":
        home.control("programseconds", "2")
    user(home, "ichi", f"|{command}")
    home.start()
    send(home, "ichi")
    wait_until(lambda: deferred(home, report), f"deferred: {report}")
    serves_others(home)


def test_a_program_in_progress_ends_with_ekiden(home: Ekiden) -> None:
    home.control("shutdownseconds", "1")
    user(home, "ichi", "|echo $$ >pid; trap '' TERM; while :; do sleep 1; done")
    home.start()
    send(home, "ichi")
    pid = home.home.parent / "user-ichi" / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip() != "", "the program runs")
    home.command("stop")
    wait_until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "the program is gone")

"""A message that is bouncing when everything is killed goes to a qmail's queue, and from there to another ekiden."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import run, wait_until

from ekiden.migration.qmail_queue import Failure, QmailQueue


@pytest.fixture
def homes(place: Path) -> Iterator[list[Ekiden]]:
    """Two that know nothing of each other."""
    homes = [Ekiden(place / name) for name in ("first", "second")]
    for each in homes:
        each.configure()
    yield homes
    for each in homes:
        each.stop()


def follow(maildir: Path, text: str) -> None:
    """What the user's .qmail says."""
    (maildir.parent / ".qmail").write_text(text)


def queued(ekiden: Ekiden) -> list[dict[str, object]]:
    return [json.loads(line) for line in ekiden.command("queue", "list", "--json").stdout.splitlines()]


def is_bouncing(ekiden: Ekiden) -> bool:
    """Whether one recipient has failed, which is recorded, while another's delivery goes on."""
    return any(message["bouncing"] for message in queued(ekiden))


def test_the_sender_is_told_of_it_once(homes: list[Ekiden], place: Path) -> None:
    ekiden, second = homes
    follow(ekiden.make_inbox("no"), "|echo no such thing; exit 100\n")
    slow = ekiden.make_inbox("slow")
    follow(slow, "|while [ -d Maildir ]; do sleep 0.1; done; exit 111\n")
    ekiden.start()
    injecting = ["-f", "jiro@ekiden.example", "slow@ekiden.example", "no@ekiden.example"]
    run([ekiden.home / "bin" / "qmail-inject", *injecting], 120, input="Subject: both\n\nbody\n")
    wait_until(lambda: is_bouncing(ekiden), "the failure to be recorded", seconds=120)
    ekiden.kill_all()
    slow.rename(slow.with_name("Ended"))

    directory = place / "qmail"
    ekiden.command("queue", "export", str(directory))
    assert queued(ekiden) == []
    found = QmailQueue(directory)
    (number,) = found.accepted()
    message = found.read(number)
    assert message.sender == b"jiro@ekiden.example"
    assert (message.local, message.remote) == ([b"slow@ekiden.example"], [])
    assert message.failures == [Failure(b"no@ekiden.example", "no such thing\n")]

    inbox = second.make_inbox("jiro")
    slow = second.make_inbox("slow")
    assert "1 bounces" in second.command("queue", "import", str(directory)).stdout
    second.start()
    wait_until(lambda: queued(second) == [], "the queue to be empty", seconds=120)
    assert [path.read_bytes().count(b"Subject: both\n") for path in (slow / "new").iterdir()] == [1]
    (notice,) = (inbox / "new").iterdir()
    assert b"<no@ekiden.example>:\nno such thing\n" in notice.read_bytes()
    assert os.listdir(directory / "bounce") == []

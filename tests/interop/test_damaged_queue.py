"""A queue whose file is damaged: ekiden says so and does not go on; recovered, it delivers what was saved.

Where one message is damaged, the others go on.
"""

from __future__ import annotations

import os
import smtplib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import run, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

MESSAGES = 20


@pytest.fixture
def waiting(home: Ekiden, sink: Sink) -> Ekiden:
    """A stopped ekiden with messages in its queue."""
    home.routes(f":{sink.route}")
    home.control("concurrencyremote", "0")
    home.start()
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        for number in range(MESSAGES):
            client.sendmail("a@example.org", f"b{number}@example.com", f"Subject: {number}\n\nhello\n")
    home.stop()
    home.control("concurrencyremote", "20")
    return home


def spoil(home: Ekiden) -> None:
    """Overwrite the page at which the table of destinations begins."""
    path = home.home / "queue" / "queue.sqlite"
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'destination'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)


def test_damaged_told_recovered_and_delivered(waiting: Ekiden, sink: Sink) -> None:
    spoil(waiting)

    refused = waiting.command("start", check=False)
    assert refused.returncode == 1
    assert "the queue is damaged" in refused.stdout
    assert "queue recover" in refused.stdout
    foreground = waiting.command("start", "--foreground", check=False)
    assert foreground.returncode == 65

    recovered = waiting.command("queue", "recover", check=False)
    assert recovered.returncode == 0, recovered.stdout
    assert f"{MESSAGES} saved" in recovered.stdout
    waiting.start()
    sink.wait_for(MESSAGES)
    waiting.command("audit")


def test_a_role_that_finds_damage_ends_everything(waiting: Ekiden) -> None:
    waiting.start()
    supervisor = waiting.supervisor()
    (queue,) = (pid for pid, role in waiting.roles().items() if role == "queue")
    path = waiting.home / "queue" / "queue.sqlite"
    os.truncate(path, 0)

    # It may have come upon it by itself already.
    run(["kill", "-9", str(queue)], check=False)

    wait_until(lambda: not Path(f"/proc/{supervisor}").exists(), "the supervisor ends")
    told = "queue.sqlite is empty; remedy: stop ekiden, then: ekiden queue recover"
    wait_until(lambda: told in waiting.log(), "what is damaged is told")
    wait_until(lambda: "alert: ekiden ends: the queue is damaged" in waiting.log(), "what comes of it is told")


def test_a_content_that_is_not_what_came_in_is_not_delivered(waiting: Ekiden, sink: Sink) -> None:
    with closing(sqlite3.connect(waiting.home / "queue" / "queue.sqlite")) as db:
        (number,) = db.execute("SELECT max(id) FROM message").fetchone()
        db.execute(
            "UPDATE message SET content = CAST(replace(content, 'hello', 'jello') AS BLOB) WHERE id = ?", (number,)
        )
        db.commit()

    waiting.start()

    sink.wait_for(MESSAGES - 1)
    wait_until(lambda: f"msg {number}: its content is damaged" in waiting.log(), "the damage is told")
    audited = waiting.command("audit", check=False)
    assert audited.returncode == 1
    assert f"message {number} has another content than came in" in audited.stdout


def flip(path: Path, at: int) -> None:
    """Change one bit; the second time it is what it was."""
    with path.open("r+b") as file:
        file.seek(at)
        (octet,) = file.read(1)
        file.seek(at)
        file.write(bytes([octet ^ 1]))


def test_no_file_that_is_not_what_came_in_is_delivered(home: Ekiden, sink: Sink) -> None:
    """In a segment, to a next hop and into a Maildir; mended they are."""
    home.routes(f":{sink.route}")
    maildir = home.make_inbox("inbox")
    home.control("locals", "ekiden.example")
    for setting in ("concurrencyremote", "concurrencylocal"):
        home.control(setting, "0")
    home.start()
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        for to, lines in (("a@example.com", 1000), ("b@example.com", 10_000), ("inbox@ekiden.example", 10_000)):
            client.sendmail("s@example.org", to, "Subject: large\n\n" + "x" * 60 + "\n" + ("y" * 60 + "\n") * lines)
    home.stop()
    files = [*(home.home / "queue" / "segments").iterdir(), *(home.home / "queue" / "spool").iterdir()]
    assert len(files) == 3
    for path in files:
        flip(path, 5000)
    for setting in ("concurrencyremote", "concurrencylocal"):
        home.control(setting, "20")
    home.start()
    said = ("its content is damaged", "deferral: This_message_is_not_what_came_in")
    wait_until(lambda: [home.log().count(words) for words in said] == [1, 2], "the damage is told")
    assert not list((maildir / "new").iterdir())
    assert not sink.received()
    for path in files:
        flip(path, 5000)
    home.command("queue", "flush")
    sink.wait_for(2)
    wait_until(lambda: len(list((maildir / "new").iterdir())) == 1, "it is in the Maildir")
    home.command("audit")


def test_an_address_that_is_not_what_came_in_gets_no_mail(waiting: Ekiden, sink: Sink) -> None:
    """One bit makes another recipient of one."""
    with closing(sqlite3.connect(waiting.home / "queue" / "queue.sqlite")) as db:
        rows = db.execute("SELECT id, recipients FROM message").fetchall()
        (damaged,) = (number for number, recipients in rows if b"b7@" in recipients)
        changed = dict(rows)[damaged].replace(b"b7@", b"b6@")
        db.execute("UPDATE message SET recipients = ? WHERE id = ?", (changed, damaged))
        db.commit()

    audited = waiting.command("audit", check=False)
    assert audited.returncode == 1
    assert f"message {damaged} has recipients that are not those who came in" in audited.stdout
    waiting.start()
    sink.wait_for(MESSAGES - 1)
    told = f"set aside: message {damaged}: the recipients of its part 0: its check does not fit"
    wait_until(lambda: told in waiting.log(), "it is told")
    listed = waiting.command("queue", "list").stdout
    assert "damaged, and set aside: the recipients of its part 0: its check does not fit" in listed
    refused = waiting.command("queue", "delete", str(damaged), check=False)
    assert refused.returncode == 1
    assert f"message {damaged} is damaged; remedy: stop ekiden, then: ekiden queue recover" in refused.stdout
    waiting.stop()

    recovered = waiting.command("queue", "recover", check=False)
    assert recovered.returncode == 1
    said = f"message {damaged} from <a@example.org> to b6@example.com: NOT SAVED: its recipients cannot be read"
    assert said in recovered.stdout
    waiting.start()
    wait_until(lambda: "0 messages in the queue" in waiting.command("audit", check=False).stdout, "it is empty")
    assert {(received.header("subject"), *received.to) for received in sink.received()} == {
        (f"{number}", f"b{number}@example.com") for number in range(MESSAGES) if number != 7
    }

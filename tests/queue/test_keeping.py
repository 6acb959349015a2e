"""What a recovery cannot save is kept in files that a person can use."""

from __future__ import annotations

import gzip
import os
import sqlite3
from pathlib import Path
from zlib import crc32

import pytest
from tests.queue.test_engine import LATER, OK, SMTP, World, to

from ekiden.base.envelope import Envelope, Recipient
from ekiden.commands import run_command
from ekiden.queue.damage import FILE
from ekiden.queue.intake import Arrival
from ekiden.queue.sqlite import SQLiteStore

SMALL, LARGE = b"Subject: small\r\n\r\nbody\r\n", b"Subject: large\r\n\r\n" + b"line\r\n" * 20_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Message 1, small, of which one recipient has got it and two wait; 2, in a segment; 3 and 4, in files."""
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("me.example\n")
    (tmp_path / "queue").mkdir()
    routes = {b"one.example": b"192.0.2.1", b"two.example": b"192.0.2.2", b"": b"192.0.2.3"}
    world = World(tmp_path / "queue", smtproutes=routes)
    whom = to(b"ok@one.example"), to(b"a@two.example"), to(b"b@three.example")
    accept(world, b"s1@example.org", SMALL, *whom)
    accept(world, b"s2@example.org", LARGE, to(b"c@two.example"))
    for number in (3, 4):
        name = f"file{number}"
        with open(world.store.create_spool(name), "wb") as file:
            file.write(LARGE)
        accept(world, b"s%d@example.org" % number, LARGE, to(b"d%d@two.example" % number), spool=name)
    for part, _envelope in world.turn(1000.0):
        outcome = OK if part.recipients[0].address == b"ok@one.example" else LATER
        world.engine.report(part, [outcome] * len(part.recipients), False, 1000.0)
    world.engine.commit()
    world.store.close()
    return tmp_path


def accept(world: World, sender: bytes, content: bytes, *recipients: Recipient, spool: str = "") -> None:
    """``content`` is in the file if there is one."""
    inline = b"" if spool else content
    envelope = Envelope(sender, list(recipients))
    arrival = Arrival(envelope, SMTP, inline, spool, len(content), crc32(content))
    world.engine.accept(arrival, 1000.0, world.answers.append)


def spoil(home: Path, statement: str) -> None:
    db = sqlite3.connect(home / "queue" / FILE)
    assert db.execute(statement).rowcount == 1
    db.commit()
    db.close()


def kept(home: Path) -> Path:
    return home / "queue" / "damaged-1" / "messages"


@pytest.mark.parametrize("sender", ["CAST('t@t.example' AS BLOB)", "'t@t.example'"], ids=["octets", "text"])
@pytest.mark.parametrize(("number", "content"), [(1, SMALL), (2, LARGE), (3, LARGE)])
def test_a_message_whose_sender_is_damaged(
    home: Path, capsys: pytest.CaptureFixture[str], number: int, content: bytes, sender: str
) -> None:
    """It was named, and its content, in a page of the damaged file, was nobody's any more."""
    spoil(home, f"UPDATE message SET sender = {sender} WHERE id = {number}")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    said = capsys.readouterr().out
    assert f"what is known of those not saved, and their contents, is in {kept(home)}" in said
    assert (kept(home) / f"{number}.eml").read_bytes() == content.replace(b"\r\n", b"\n")
    lines = (kept(home) / f"{number}.txt").read_text().splitlines()
    assert lines[:2] == [f"message {number}: its envelope cannot be read", "sender: t@t.example (not certain)"]
    waiting = {1: ["a@two.example", "b@three.example"], 2: ["c@two.example"], 3: ["d3@two.example"]}[number]
    assert lines[2:-1] == [f"recipient: {address}" for address in waiting]
    assert len(list(kept(home).iterdir())) == 2


def test_a_message_whose_size_cannot_be(home: Path) -> None:
    spoil(home, "UPDATE message SET size = 'x' WHERE id = 1")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    assert (kept(home) / "1.eml").read_bytes() == SMALL.replace(b"\r\n", b"\n")
    assert "sender: s1@example.org" in (kept(home) / "1.txt").read_text().splitlines()


def test_octets_that_became_a_text_are_what_they_were(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As by one bit of a row: their check fits, and nothing is lost."""
    spoil(home, "UPDATE message SET sender = 's1@example.org' WHERE id = 1")
    assert run_command(["--home", str(home), "queue", "list"], home) == 0
    assert "its sender is not octets, as it was written" in capsys.readouterr().out
    assert run_command(["--home", str(home), "queue", "recover"], home) == 0
    assert "1 entries of message have values of another kind" in capsys.readouterr().out
    assert run_command(["--home", str(home), "audit"], home) == 0


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(("number", "other"), [(1, 77), (2, 77), (3, 3 + (1 << 20)), (4, 77)])
def test_a_message_whose_number_is_damaged_is_saved(
    home: Path, capsys: pytest.CaptureFixture[str], number: int, other: int, started: bool
) -> None:
    """Its envelope's check fits one that recipients wait for, or one that differs in a bit."""
    spoil(home, f"UPDATE message SET id = {other} WHERE id = {number}")
    if number == 3:
        # It has not been tried, and its recipients are in its own row.
        spoil(home, "DELETE FROM part WHERE message = 3")
    if started:
        store = SQLiteStore(home / "queue")
        store.recover()
        store.close()
    assert run_command(["--home", str(home), "queue", "recover"], home) == 0
    assert f"message {number} had the number {other}" in capsys.readouterr().out
    assert run_command(["--home", str(home), "audit"], home) == 0
    store = SQLiteStore(home / "queue")
    assert [row.id for row in store.messages(0, 10)] == [1, 2, 3, 4]
    assert store.parts(number)
    store.close()


@pytest.mark.parametrize("harm", ["size = 'x'", "size = -5", "at = -4096", "at = 'x'", "segment = 'x'"])
def test_a_place_that_cannot_be_is_shown_as_one(home: Path, capsys: pytest.CaptureFixture[str], harm: str) -> None:
    spoil(home, f"UPDATE message SET {harm} WHERE id = 2")
    assert run_command(["--home", str(home), "queue", "show", "2", "--content"], home) == 0
    assert "its content cannot be read" in capsys.readouterr().out
    assert run_command(["--home", str(home), "audit"], home) == 1
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1


def test_a_number_that_fits_nobody_is_kept(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the recipients who wait for the lost one."""
    spoil(home, "UPDATE message SET id = 77, sender = x'00' WHERE id = 2")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    assert {path.name for path in kept(home).iterdir()} == {"2.txt", "77.txt", "77.eml"}


def test_recipients_of_whom_only_some_can_be_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others get it; for these it is kept."""
    part = "message = 1 AND part = 1"
    (octets,) = sqlite3.connect(home / "queue" / FILE).execute(f"SELECT recipients FROM part WHERE {part}").fetchone()
    spoil(home, f"UPDATE part SET recipients = x'{octets.replace(b'a@', b'x@').hex()}' WHERE {part}")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    assert (kept(home) / "1.eml").read_bytes() == SMALL.replace(b"\r\n", b"\n")
    lines = (kept(home) / "1.txt").read_text().splitlines()
    assert lines[1:-1] == ["sender: s1@example.org", "recipient: x@two.example (not certain)"]
    capsys.readouterr()
    assert run_command(["--home", str(home), "queue", "show", "1"], home) == 0
    assert "b@three.example" in capsys.readouterr().out


def test_a_content_that_is_damaged(home: Path) -> None:
    """As much of it as there is; one in a file of its own is not read as something else."""
    with (home / "queue" / "spool" / "file3").open("r+b") as file:
        file.truncate(1000)
    path = home / "queue" / "spool" / "file4"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    assert (kept(home) / "3.eml").read_bytes() == LARGE[:1000].replace(b"\r\n", b"\n")
    assert (kept(home) / "3.txt").read_text().splitlines()[1:] == [
        "sender: s3@example.org",
        "recipient: d3@two.example",
        "content: in 3.eml",
    ]
    assert "content: none that is known" in (kept(home) / "4.txt").read_text()
    assert not (kept(home) / "4.eml").exists()


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (home / "queue" / "spool" / "file4", *(home / "queue" / "segments").iterdir()):
        path.unlink()
        os.mkfifo(path)
    assert run_command(["--home", str(home), "audit"], home) == 1
    said = capsys.readouterr().out
    assert "message 4 has 0 octets of content" in said
    assert "message 2 has a content that cannot be read" in said
    store = SQLiteStore(home / "queue")
    os.close(store.open_spool("file4"))
    store.close()
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    assert {path.name for path in kept(home).iterdir()} == {"2.txt", "4.txt"}


def test_a_file_that_the_queue_may_not_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root may."""
    (home / "queue" / "spool" / "file3").chmod(0)
    assert run_command(["--home", str(home), "audit"], home) == 1
    assert "message 3 has " in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["garbage", "truncated", "pipe"])
def test_a_log_that_cannot_be_read_is_named_and_the_rest_compared(
    home: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    (home / "log").mkdir()
    path = home / "log" / "ekiden.log.2.gz"
    if harm == "pipe":
        os.mkfifo(home / "log" / "ekiden.log.3")
    else:
        path.write_bytes(b"garbage" if harm == "garbage" else gzip.compress(b"x" * 1000)[:-9])
    (home / "log" / "ekiden.log").write_text(f"1700000000.000000 new msg {1 << 62}\n")
    assert run_command(["--home", str(home), "audit"], home) == (0 if harm == "pipe" else 1)
    said = capsys.readouterr().out
    assert ("the log cannot be read to its end: " in said) == (harm != "pipe")
    assert ": 0 problems" in said
    # What it says of the queue is none the less said.
    spoil(home, "UPDATE message SET sender = x'00' WHERE id = 1")
    assert run_command(["--home", str(home), "audit"], home) == 1
    assert "message 1 has an envelope that is not what came in" in capsys.readouterr().out


def test_a_message_whose_row_is_gone(home: Path) -> None:
    spoil(home, "DELETE FROM message WHERE id = 1")
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    assert (kept(home) / "1.txt").read_text().splitlines() == [
        "message 1: its sender and content cannot be read",
        "recipient: a@two.example",
        "recipient: b@three.example",
        "content: none that is known",
    ]


def test_nothing_is_kept_of_what_is_saved(home: Path) -> None:
    spoil(home, "UPDATE ledger SET entry = x'c1' WHERE message = 1")
    run_command(["--home", str(home), "queue", "recover"], home)
    assert (home / "queue" / "damaged-1").is_dir()
    assert not kept(home).exists()


def test_a_dry_run_keeps_nothing(home: Path) -> None:
    spoil(home, "UPDATE message SET sender = x'00' WHERE id = 1")
    assert run_command(["--home", str(home), "queue", "recover", "--dry-run"], home) == 1
    assert not kept(home).exists()

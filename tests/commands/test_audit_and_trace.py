"""audit and trace on a home with all kinds of ends, while it runs and after."""

from __future__ import annotations

import json
import smtplib
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port, wait_until
from tests.peers.sinks import Sink

from ekiden.commands.auditing import Logged
from ekiden.queue.audit import Audited
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import Reach

pytestmark = pytest.mark.slow

LARGE = "x" * 76 + "\r\n"


@pytest.fixture
def eventful(home: Ekiden, sink: Sink) -> Ekiden:
    """One message delivered, one whose next hop is down, large; one refused at the door; one deleted."""
    home.routes(f"near.example:{sink.route}", f":127.0.0.1:{free_port()}")
    home.control("badmailfrom", "@bad.example")
    home.start()
    send(home, "one@a.example", "x@near.example")
    send(home, "two@a.example", "y@far.example", LARGE * 5000)
    # Two that fail at the same time may have been too many at once: then one is tried again two seconds later.
    wait_until(lambda: "deferral" in home.log(), "the second has been tried")
    with pytest.raises(smtplib.SMTPException):
        send(home, "eve@bad.example", "x@near.example")
    send(home, "three@a.example", "z@far.example")
    sink.wait_for(1)
    wait_until(lambda: all(attempts(home)) and len(home.queue()) == 2, "the rest has been tried")
    wait_until(lambda: "refuse:" in home.log() and home.log().count("deferral") == 2, "the log is written")
    home.command("queue", "delete", "--sender", "three@*")
    return home


def send(home: Ekiden, sender: str, recipient: str, body: str = "body\r\n") -> None:
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail(sender, recipient, f"Subject: test\r\nMessage-Id:\r\n <1.{recipient}>\r\n\r\n{body}")


def attempts(home: Ekiden) -> list[int]:
    return [recipient["attempts"] for message in home.queue() for recipient in message["recipients"]]


def trace(home: Ekiden, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in home.command("trace", *options, "--json").stdout.splitlines()]


def words(story: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in story]


def test_audit(eventful: Ekiden) -> None:
    for _ in ("running", "stopped"):
        found = json.loads(eventful.command("audit", "--json").stdout)
        assert found["problems"] == []
        assert (found["queued"], found["ended"], found["recipients"], found["logged"]) == (1, 2, 3, 3)
        eventful.stop()
    (file,) = (eventful.home / "queue" / "spool").iterdir()
    with file.open("r+b") as content:
        content.seek(1000)
        content.write(b"?")
    with sqlite3.connect(eventful.home / "queue" / "queue.sqlite") as store:
        store.execute("DELETE FROM ledger WHERE message = 3")
    store.close()
    said = eventful.command("audit", check=False)
    assert said.returncode == 1
    assert "message 2 has another content than came in" in said.stdout
    assert "message 3 is in the log, and neither in the queue nor in the ledger" in said.stdout


def test_audit_does_not_miss_what_the_ledger_has_forgotten(eventful: Ekiden) -> None:
    """Message 2 waits since before 3 ended: the queue reaches further back than the ledger."""
    send(eventful, "four@a.example", "x@near.example")
    wait_until(lambda: "end msg 4" in eventful.log(), "the fourth is delivered")
    eventful.stop()
    for _ in ("the first two", "the last"):
        store = SQLiteStore(eventful.home / "queue")
        assert store.trim_ledger(time.time(), 2, time.time())
        store.close()
        said = eventful.command("audit", check=False)
        assert said.returncode == 0, said.stdout


def test_audit_misses_what_was_never_tried(eventful: Ekiden) -> None:
    eventful.stop()
    log = eventful.home / "log" / "ekiden.log"
    log.write_text(f"{log.read_text()}Nov 30 00:47:39 x qmail: {time.time():.6f} new msg 9\n")
    said = eventful.command("audit", check=False)
    assert "message 9 is in the log, and neither in the queue nor in the ledger" in said.stdout


@pytest.mark.parametrize(
    ("message", "last", "misses"),
    [(1, 500.0, False), (2, 500.0, False), (3, 99.0, False), (3, 100.0, True), (9, 500.0, True), (10, 50.0, True)],
)
def test_what_the_books_do_not_reach_is_not_missed(message: int, last: float, misses: bool) -> None:
    """Messages 1 and 2 may be forgotten; before 100 no ledger was kept; 10 had no number yet."""
    logged = Logged({message: last})
    for page in (Audited(known=[2, 5], reach=Reach(9, 1, 100.0)), Audited(known=[7], reach=Reach(9, 2, 100.0))):
        logged.add(page)
    assert logged.missing() == [message] * misses


def test_a_message_that_is_gone_from_a_new_queue_is_missed(home: Ekiden) -> None:
    """With all its rows, before any message ended: the log alone tells of it."""
    home.routes(f":127.0.0.1:{free_port()}")
    home.start()
    for number in range(3):
        send(home, f"s{number}@a.example", "x@far.example")
    wait_until(lambda: home.log().count("deferral") == 3, "all were tried")
    home.stop()
    forget(home, "DELETE FROM message WHERE id = 2")
    said = home.command("audit", check=False)
    assert said.returncode == 1
    assert "message 2 part 0 waits for x@far.example, and sender and content are gone" in said.stdout
    forget(home, "DELETE FROM part WHERE message = 2")
    for _ in ("stopped", "running"):
        said = home.command("audit", check=False)
        assert said.returncode == 1
        assert "message 2 is in the log, and neither in the queue nor in the ledger: no end" in said.stdout
        home.start()


def forget(home: Ekiden, statement: str) -> None:
    store = sqlite3.connect(home.home / "queue" / "queue.sqlite", isolation_level=None)
    store.execute(statement)
    store.close()


def test_trace(eventful: Ekiden) -> None:
    story = trace(eventful, "1")
    assert words(story) == ["came in", "new", "info", "starting", "success", "delivered", "end"]
    assert next(event for event in story if event["event"] == "came in")["client"] == "127.0.0.1"
    assert "waits" in words(trace(eventful, "--sender", "two@*"))
    (deleted,) = [event for event in trace(eventful, "--recipient", "z@far.example") if event["event"] == "deleted"]
    assert deleted["report"].startswith("deleted by ")
    (refused,) = trace(eventful, "--sender", "*@bad.example")
    assert (refused["event"], refused["client"]) == ("refuse", "127.0.0.1")
    assert {event.get("message") for event in trace(eventful, "--since", "1h")} == {None, 1, 2, 3}
    assert {event["message"] for event in trace(eventful, "--remote", "127.0.0.1", "--recipient", "x@near*")
            if "message" in event} == {1}  # fmt: skip
    assert "refused 127.0.0.1 (HELO " in (told := eventful.command("trace", "--sender", "*@bad.example").stdout)
    assert "), <eve@bad.example>: 553 " in told
    for name, number in (("<1.x@NEAR.*>", 1), ("1.y@far.example", 2)):
        assert {event["message"] for event in trace(eventful, "--message-id", name)} == {number}, "one is in a file"
    assert ", <1.y@far.example>" in eventful.command("trace", "2").stdout
    assert eventful.command("trace", "--until", "1h", check=False).returncode == 1
    assert eventful.command("trace", "99", check=False).returncode == 1
    assert eventful.command("trace", check=False).returncode == 2
    for action in ("hold", "release"):
        eventful.command("queue", action, "2")
    wait_until(lambda: ": release msg 2" in eventful.log(), "the log is written")
    assert [event["action"] for event in trace(eventful, "2") if event["event"] == "administrator"] == [
        "hold",
        "release",
    ]
    told = eventful.command("trace", "2").stdout
    assert "release by " in told
    assert "put off for y@far.example" in told and "waits for y@far.example" in told
    eventful.stop()
    assert words(trace(eventful, "1")) == words(story)


def test_trace_says_why_nobody_is_told(home: Ekiden, make_sink: Callable[..., Sink]) -> None:
    home.routes(f":{make_sink('--reply', 'RCPT TO:=550 5.1.1 nobody here').route}")
    home.start()
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail("one@a.example", "x@b.example", "Subject: test\r\n\r\n", rcpt_options=["NOTIFY=NEVER"])
    wait_until(lambda: "end msg 1" in home.log(), "the message has left")
    told = home.command("trace", "1").stdout
    assert "nobody here" in told and "(nobody is told: NOTIFY asks for that)" in told
    assert home.command("audit").returncode == 0


def test_trace_reads_json_logs(home: Ekiden, sink: Sink) -> None:
    home.routes(f":{sink.route}")
    home.control("logformat", "json")
    home.start()
    send(home, "one@a.example", "x@near.example")
    sink.wait_for(1)
    wait_until(lambda: '"event":"end"' in home.log(), "the log is written")
    assert {"new", "starting", "success", "end", "delivered"} <= set(words(trace(home, "1")))


@pytest.mark.parametrize("line", ["refuse: 192.0.2.7: denied by rule", "refuse: pop3: 192.0.2.7: jiro: no such user"])
def test_trace_finds_refusals_by_their_client(home: Ekiden, line: str) -> None:
    (home.home / "log" / "ekiden.log").write_text(f"Nov 30 00:47:39 x qmail: 1795999659.450420 {line}\n")
    (refused,) = trace(home, "--remote", "192.0.2.7")
    assert refused["reason"] == line.partition("192.0.2.7: ")[2]

"""trace on a home where messages lead to others: bounces, double bounces, a list; and what asking for them finds."""

from __future__ import annotations

import fcntl
import json
import smtplib
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

Story = list[dict[str, Any]]


@pytest.fixture
def branching(home: Ekiden, sink: Sink, make_sink: Callable[..., Sink]) -> Ekiden:
    """Message 1 bounces, and its notice 2, and that one's, 3; another goes to a list, which bounces in part."""
    refusing = make_sink("--reply", "RCPT TO:=550 5.1.1 nobody here")
    home.routes(f"good.example:{sink.route}", f"bad.example:{refusing.route}", f":127.0.0.1:{free_port()}")
    home.control("doublebouncehost", "bad.example")
    home.control("virtualdomains", "virtual.example:list")
    maildir = home.make_inbox("list")
    (maildir.parent / ".qmail").write_text("&x@good.example\n&y@bad.example\n")
    home.start()
    send(home, "h@bad.example", "no@bad.example")
    wait_until(lambda: "triple bounce" in home.log(), "the triple bounce")
    send(home, "e@good.example", "list@ekiden.example")
    wait_until(lambda: home.log().count("end msg ") == 6, "all have left")
    return home


def send(home: Ekiden, sender: str, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail(sender, recipient, "Subject: test\r\n\r\nbody\r\n")


def trace(home: Ekiden, *options: str) -> list[Story]:
    """The stories, by message; refusals under 0."""
    told = home.command("trace", *options, "--json", check=False)
    assert told.returncode == 0 or told.stdout.startswith("nothing is known"), told.stdout
    found: dict[int, Story] = {}
    for line in told.stdout.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            found.setdefault(event.get("message", 0), []).append(event)
    return list(found.values())


def numbers(home: Ekiden, *options: str) -> list[int]:
    return [story[0].get("message", 0) for story in trace(home, *options)]


def words(story: Story) -> list[str]:
    return [event["event"] for event in story]


def test_bounces_lead_to_each_other(branching: Ekiden) -> None:
    for _ in ("with a log", "without"):
        first, second, third = (trace(branching, number)[0] for number in "123")
        assert [event["notice"] for event in first if event["event"] == "bounce"] == [2]
        assert [event["of"] for event in second if event["event"] == "notice"] == [1]
        assert [event["notice"] for event in second if event["event"] == "bounce"] == [3]
        assert [event["of"] for event in third if event["event"] == "notice"] == [2]
        assert {"triple bounce", "silence"} & {*words(third)}
        (branching.home / "log" / "ekiden.log").unlink(missing_ok=True)
    assert "msg 3 nobody is told" in branching.command("trace", "3").stdout


def test_a_list_leads_to_the_new_message_and_back(branching: Ekiden) -> None:
    sent, onward = trace(branching, "--sender", "e@good.example")
    assert words(sent) == ["came in", "new", "info", "starting", "success", "delivered", "end"]
    number, made = str(sent[0]["message"]), onward[0]["message"]
    assert sent[4]["forwards"] == [made]
    assert words(onward)[:2] == ["came in", "forward"]
    assert (str(onward[1]["of"]), onward[1]["recipient"]) == (number, "list@ekiden.example")
    told = branching.command("trace", number).stdout
    assert f"delivered to list@ekiden.example, as message {made}: did_0+2+0" in told
    ended = [event["recipient"] for event in onward if event["event"] in ("delivered", "failed")]
    assert sorted(ended) == ["x@good.example", "y@bad.example"]
    for wanted in ([sent], [onward]):
        assert trace(branching, str(wanted[0][0]["message"])) == wanted


def test_what_is_asked_for(branching: Ekiden) -> None:
    send(branching, "late@good.example", "who@far.example")
    wait_until(lambda: "deferral: Sorry" in branching.log(), "the last one waits")
    notices = numbers(branching, "--sender", "")
    assert len(notices) == 2 and notices[0] == 2, "those of bounces, whose sender is null"
    assert numbers(branching, "--sender", "#@[]") == [3]
    assert len(numbers(branching, "--recipient", "y@bad.example", "--remote", "127.0.0.1")) == 1
    time.sleep(1.1)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    assert numbers(branching, "--since", now) == [], "what only waits has not happened"
    assert "waits" in words(trace(branching, "--since", "1h", "--sender", "late@*")[0])
    branching.command("queue", "delete", "--sender", "late@*")
    wait_until(lambda: "delete msg" in branching.log(), "the log is written")
    (deleted,) = trace(branching, "--since", now)
    assert words(deleted)[-3:] == ["administrator", "deleted", "end"]
    for wrong in (("5", "--sender", "x"), ("--since", "soon"), ("x",), ()):
        assert branching.command("trace", *wrong, check=False).returncode == 2


def test_a_virtual_domain(branching: Ekiden) -> None:
    """Its mail is known to the queue by the name of the user who gets it; an administrator is asked by the other."""
    send(branching, "a@good.example", "info@virtual.example")
    wait_until(lambda: "to local list-info@virtual.example" in branching.log(), "it is tried")
    assert numbers(branching, "--recipient", "info@virtual.example") != []
    assert numbers(branching, "--recipient", "other@virtual.example") == []


def test_books_that_another_process_has_are_to_be_asked_for_again(home: Ekiden) -> None:
    """Code 1 would tell a monitor that something is wrong with the queue."""
    home.start()
    home.stop()
    with (home.home / "queue" / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["audit"], ["trace", "1"], ["queue", "hold", "1"]):
            assert home.command(*command, check=False).returncode == 75
    assert home.command("audit").returncode == 0


def test_nobody_speaks_to_the_terminal(branching: Ekiden) -> None:
    branching.control("logformat", "json")
    branching.reload()
    wait_until(lambda: "settings reloaded" in branching.log(), "the reload")
    with smtplib.SMTP("127.0.0.1", branching.port) as client:
        client.docmd("MAIL", "FROM:<\x1b[2J@x.example>")
    wait_until(lambda: "sender address has a syntax error" in branching.log(), "the refusal is logged")
    told = branching.command("trace", "--since", "1h").stdout
    assert "\x1b" not in told and "<\\x1b[2J@x.example>: 501 " in told

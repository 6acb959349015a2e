"""ekiden's own commands on a running home whose next hop is down, as an administrator uses them."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.peers.ekiden import COMMAND, Ekiden
from tests.peers.processes import free_port, wait_until

from ekiden.commands import queueing, run_command

pytestmark = pytest.mark.slow


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def waiting(home: Ekiden, refusing: int) -> Ekiden:
    """Two messages in the queue, each deferred once."""
    home.routes(f":127.0.0.1:{refusing}")
    home.start()
    send(home, "one@a.example", "x@far.example")
    # Two that fail at the same time may have been too many at once: then one is tried again two seconds later.
    wait_until(lambda: "delivery 1: deferral" in home.log(), "the first message has been tried")
    send(home, "two@b.example", "y@near.example")
    wait_until(lambda: all(attempts(home)), "both messages have been tried")
    return home


def send(home: Ekiden, sender: str, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.sendmail(sender, recipient, "Subject: test\n\nbody\n")


def attempts(home: Ekiden) -> list[int]:
    return [recipient["attempts"] for message in home.queue() for recipient in message["recipients"]]


def senders(home: Ekiden, *options: str) -> list[str]:
    listed = home.command("queue", "list", "--json", *options).stdout
    return [json.loads(line)["sender"] for line in listed.splitlines()]


def test_filters(waiting: Ekiden) -> None:
    assert senders(waiting) == ["one@a.example", "two@b.example"]
    assert senders(waiting, "--sender", "*@B.example") == ["two@b.example"]
    assert senders(waiting, "--recipient", "x@*") == ["one@a.example"]
    assert senders(waiting, "--destination", "nowhere*") == []
    where = waiting.queue()[0]["recipients"][0]["destination"]
    assert where.startswith("[127.0.0.1]:")
    assert len(senders(waiting, "--destination", where)) == len(senders(waiting, "--destination", "*127.0.0.1*")) == 2
    assert senders(waiting, "--sender", "") == [], "there is no bounce"
    assert senders(waiting, "--older", "1h") == []
    assert senders(waiting, "--younger", "1h", "--limit", "1") == ["one@a.example"]
    assert "more: ekiden queue list --after 1" in waiting.command("queue", "list", "--limit", "1").stdout


def test_show(waiting: Ekiden) -> None:
    assert waiting.command("queue", "show", "1", "--content").stdout.endswith("Subject: test\n\nbody\n")
    missing = waiting.command("queue", "show", "99", check=False)
    assert (missing.returncode, missing.stdout) == (1, "message 99 is not in the queue\n")


def test_what_is_too_long_to_show_is_said(
    waiting: Ekiden, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(queueing, "_SHOWN", 10)
    assert run_command(["queue", "show", "1", "--content"], waiting.home) == 0
    sys.stdout.flush()
    shown = capfdbinary.readouterr()
    assert shown.out == b"Received: "
    assert shown.err == b"ekiden: the first 10 octets; the message is longer\n"


def test_hold_release_delete_bounce(waiting: Ekiden) -> None:
    assert waiting.command("queue", "hold", "1").stdout == "1 message held\n"
    assert senders(waiting, "--held") == ["one@a.example"]
    assert waiting.command("queue", "flush").stdout == "1 message flushed\n"
    wait_until(lambda: attempts(waiting)[1] >= 2, "the other is tried again")
    assert attempts(waiting)[0] == 1, "a message on hold is not tried"
    waiting.command("queue", "release", "--held")
    wait_until(lambda: attempts(waiting)[0] >= 2, "a released message is tried at once")
    assert waiting.command("queue", "delete", "--sender", "two@*").stdout == "1 message deleted\n"
    waiting.command("queue", "bounce", "1")
    wait_until(lambda: senders(waiting) == [""], "a notice is on its way to the sender")
    assert senders(waiting, "--sender", "") == [""]
    assert "The administrator returned this message" in waiting.command("queue", "show", "3", "--content").stdout


def test_what_was_done_is_told_message_by_message(waiting: Ekiden) -> None:
    def told(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        done = waiting.command("queue", *arguments, "--json", check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    assert told("flush") == (0, [{"action": "flush", "messages": 2}])
    wait_until(lambda: min(attempts(waiting)) >= 2, "both have been tried again")
    assert told("hold", "--sender", "one@*") == (0, [{"id": 1, "action": "hold", "done": True}])
    missing = {"id": 9, "action": "delete", "done": False, "error": "not in the queue, or so already"}
    assert told("delete", "2", "9") == (1, [{"id": 2, "action": "delete", "done": True}, missing])
    assert told("bounce", "--recipient", "nobody@*") == (0, [])


def test_some_are_flushed(waiting: Ekiden) -> None:
    assert waiting.command("queue", "flush", "--recipient", "y@*").stdout == "1 message flushed\n"
    wait_until(lambda: attempts(waiting)[1] >= 2, "it is tried at once")
    assert attempts(waiting)[0] == 1, "and it alone"
    waiting.command("queue", "hold", "1")
    held = waiting.command("queue", "flush", "1", check=False)
    assert (held.returncode, held.stdout.splitlines()[0]) == (1, "0 messages flushed")


def test_messages_are_counted_and_not_their_destinations(waiting: Ekiden, refusing: int) -> None:
    waiting.routes(f"x.example:127.0.0.2:{refusing}", f":127.0.0.1:{refusing}")
    waiting.reload()
    with smtplib.SMTP("127.0.0.1", waiting.port) as client:
        client.sendmail("three@c.example", ["z@x.example", "z@y.example"], "Subject: test\n\nbody\n")
    wait_until(lambda: all(attempts(waiting)), "all have been tried")
    assert waiting.command("queue", "flush").stdout == "3 messages flushed\n"


def test_programs_are_told_of_all_messages_and_people_of_a_page(waiting: Ekiden) -> None:
    waiting.command("queue", "hold", "--all")
    with smtplib.SMTP("127.0.0.1", waiting.port) as client:
        for _ in range(100):
            client.sendmail("many@c.example", "x@far.example", "Subject: test\n\nbody\n")
    assert len(senders(waiting)) == 102
    assert waiting.command("queue", "list").stdout.count("via") == 100


def test_what_is_being_delivered_may_be_tried_again(home: Ekiden) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        home.routes(f":127.0.0.1:{silent.getsockname()[1]}")
        home.start()
        send(home, "one@a.example", "x@far.example")
        connection, _address = silent.accept()
        with connection:
            busy = home.command("queue", "delete", "1", check=False)
    assert busy.returncode == 75 and "1 being delivered just now, try again" in busy.stdout


def test_output_that_cannot_be_written_may_be_tried_again(home: Ekiden) -> None:
    with open("/dev/full", "w") as full:
        told = subprocess.run([COMMAND, "--home", home.home, "route", "a@b.example"], stdout=full, check=False)
    assert told.returncode == 75


def test_requeue_routes_anew(waiting: Ekiden) -> None:
    waiting.routes("far.example:[192.0.2.1]")
    waiting.reload()
    assert waiting.command("queue", "requeue", "1").stdout == "1 message requeued\n"
    wait_until(
        lambda: waiting.queue()[0]["recipients"][0]["destination"] == "[192.0.2.1]:25", "the new route is taken"
    )


def test_nothing_is_changed_unless_it_is_said_what(waiting: Ekiden) -> None:
    refused = waiting.command("queue", "delete", check=False)
    assert refused.returncode == 2
    assert "--all" in refused.stdout
    for wrong in (["delete", "1", "--sender", "two@*"], ["delete", "1", "--all"], ["show", "9" * 19]):
        assert waiting.command("queue", *wrong, check=False).returncode == 2
    assert "more" not in waiting.command("queue", "list", "--limit", "0", "--sender", "nobody").stdout
    assert len(senders(waiting)) == 2


def classic(home: Ekiden, name: str) -> str:
    return subprocess.run([home.home / "bin" / name], capture_output=True, text=True, check=True).stdout


def test_qmails_programs_tell_the_same(waiting: Ekiden) -> None:
    assert classic(waiting, "qmail-qstat") == "messages in queue: 2\nmessages in queue but not yet preprocessed: 0\n"
    listed = classic(waiting, "qmail-qread").splitlines()
    assert listed[0].split("GMT")[1].split() == ["#1", str(waiting.queue()[0]["bytes"]), "<one@a.example>"]
    assert listed[0].endswith("  <one@a.example> ")  # As the original leaves room for a word.
    assert listed[1] == "\tremote\tx@far.example"


def test_qmail_qread_tells_who_is_done(home: Ekiden, refusing: int) -> None:
    home.routes(f":127.0.0.1:{refusing}")
    for name in ("jiro", "slow"):
        home.make_inbox(name)
    (home.home.parent / "user-slow" / ".qmail").write_text("|exit 111\n")
    home.start()
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        there = ["jiro@ekiden.example", "slow@ekiden.example", "x@far.example"]
        client.sendmail("one@a.example", there, "Subject: test\n\nbody\n")
    wait_until(lambda: all(attempts(home)) and len(attempts(home)) == 2, "all have been tried")
    lines = ["  done\tlocal\tjiro@ekiden.example", "\tlocal\tslow@ekiden.example", "\tremote\tx@far.example"]
    assert classic(home, "qmail-qread").splitlines()[1:] == lines
    home.stop()
    assert classic(home, "qmail-qread").splitlines()[1:] == lines, "while nothing runs as well"
    assert len(attempts(home)) == 2
    assert home.command("queue", "show", "1", "--content").stdout.endswith("Subject: test\n\nbody\n")
    refused = home.command("queue", "flush", check=False)
    assert refused.returncode == 75 and "does not answer; start it with" in refused.stdout


def test_starting_twice_and_stopping_twice(home: Ekiden) -> None:
    home.start()
    supervisor, roles = home.supervisor(), home.roles()
    assert "already runs" in home.command("start").stdout
    assert (home.supervisor(), home.roles()) == (supervisor, roles)
    home.command("stop")
    assert home.log().splitlines()[-1].endswith(" status: exiting")
    assert home.command("stop").stdout.endswith(f"does not run in {home.home}\n")
    stopped = home.command("status", "--json", check=False)
    assert (stopped.returncode, json.loads(stopped.stdout)) == (1, {"running": False})


def test_a_log_that_nobody_will_read_is_said(home: Ekiden) -> None:
    home.control("logtarget", "stderr")
    started = home.command("start")
    assert started.stdout.startswith("ekiden: control/logtarget is stderr, so that nobody reads the log")
    assert home.supervisor()


def test_a_port_in_use_is_said(home: Ekiden) -> None:
    home.start()
    other = Ekiden(home.home.parent / "other")
    other.configure()
    other.control("listen", f"smtp 127.0.0.1:{home.port}")
    refused = other.command("start", check=False)
    assert refused.returncode == 1
    assert f"control/listen: smtp 127.0.0.1:{home.port}: Address already in use" in refused.stdout


def test_a_home_that_is_not_configured(home: Ekiden) -> None:
    absent = Ekiden(home.home.parent / "absent")
    refused = absent.command("start", check=False)
    assert refused.returncode == 1
    assert "config FQDN" in refused.stdout


@pytest.mark.parametrize("where", ["foo", ":2525", "127.0.0.1", ""])
def test_nothing_is_configured_to_listen_nowhere(home: Ekiden, where: str) -> None:
    absent = Ekiden(home.home.parent / "absent")
    refused = absent.command("config", "a.example", "--listen", where, check=False)
    assert (refused.returncode, "--listen" in refused.stdout) == (2, True)
    assert not absent.home.exists()


def test_reload_keeps_sessions_and_refuses_wrong_settings(home: Ekiden) -> None:
    home.start()
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        client.ehlo()
        home.control("databytes", "many")
        refused = home.command("reload", check=False)
        assert refused.returncode == 1
        assert "control/databytes:1" in refused.stdout
        home.control("databytes", "12345")
        home.reload()
        assert client.noop()[0] == 250, "an idle session goes on"

    def announced() -> bool:
        with smtplib.SMTP("127.0.0.1", home.port) as client:
            return "SIZE 12345" in client.ehlo()[1].decode()

    wait_until(announced, "new sessions have the new settings")


def test_reload_refuses_wrong_rules(home: Ekiden) -> None:
    home.start()
    home.control("tcp.smtp", ":allow", ":alow")

    refused = home.command("reload", check=False)

    assert refused.returncode == 1
    assert "control/tcp.smtp:2: :alow is no rule" in refused.stdout
    os.kill(home.supervisor(), signal.SIGHUP)
    wait_until(lambda: "settings not changed: control/tcp.smtp:2" in home.log(), "the supervisor says so too")
    with smtplib.SMTP("127.0.0.1", home.port) as client:
        assert client.noop()[0] == 250


def test_rules_that_keep_nobody_away_are_told(home: Ekiden) -> None:
    home.control("tcp.smtp", "=.sender.example:deny", ":allow")
    home.start()
    wait_until(lambda: "warning: control/tcp.smtp:1: never applies" in home.log(), "the log says so")
    assert "control/tcp.smtp:1: warning: never applies" in home.command("check").stdout
    home.control("tcp.smtp", ":allow", "=:deny")
    home.reload()
    wait_until(lambda: "warning: control/tcp.smtp:2: never applies" in home.log(), "a reload says it too")


def test_reload_moves_to_another_port(home: Ekiden) -> None:
    """The roles made by a reload once closed the new listener, whose number a descriptor of the start had borne."""
    home.start()
    port = free_port()
    home.control("listen", f"smtp 127.0.0.1:{port}")
    home.reload()

    def answers() -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                return client.noop()[0] == 250
        except OSError:
            return False

    wait_until(answers, "the new port is served")
    once = ["local", "log", "queue", "remote", "smtpd"]
    wait_until(lambda: sorted(home.roles().values()) == once, "those that were replaced have ended")


def test_what_a_stranger_wrote_does_not_speak_to_the_terminal(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    recipient = {"recipient": "\x9bx@y", "destination": "y", "attempts": 1, "due": None, "last": "no\x1b[31m\n"}
    queueing._print(
        {
            "id": 1,
            "birth": 0,
            "bytes": 1,
            "sender": "\x1b[2J\udcff",
            "held": False,
            "damaged": "",
            "recipients": [recipient],
        }
    )
    sys.stdout.flush()
    shown = capfdbinary.readouterr().out
    assert rb"<\x1b[2J\udcff>" in shown and rb"\x9bx@y" in shown and rb"no\x1b[31m" in shown
    assert b"\x1b" not in shown

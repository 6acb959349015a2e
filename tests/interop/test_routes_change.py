"""Queued mail follows a smart host that is replaced: HUP, ALRM, and a start after a crash."""

from __future__ import annotations

import os
import signal
import smtplib

import pytest
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow


def send(ekiden: Ekiden, subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", ekiden.port, timeout=60) as client:
        client.sendmail("a@a.example", ["b@b.example", "c@c.example"], f"Subject: {subject}\n\nhello\n")


def wait_until_deferred(ekiden: Ekiden, count: int) -> None:
    wait_until(lambda: ekiden.log().count("deferral:") >= count, "the dead smart host was tried")


def subjects(sink: Sink) -> list[str]:
    return [message.header("Subject") for message in sink.received()]


def test_queued_mail_goes_to_the_new_smart_host(home: Ekiden, sink: Sink) -> None:
    dead = f":[127.0.0.1]:{free_port()}"
    home.routes(dead)
    home.start()
    send(home, "reload")
    wait_until_deferred(home, 2)
    home.routes(f":{sink.route}")
    supervisor = home.supervisor()
    os.kill(supervisor, signal.SIGHUP)
    wait_until(lambda: sink.route in home.command("route", "x@x.example").stdout, "the file is read")

    def has_arrived() -> bool:
        os.kill(supervisor, signal.SIGALRM)
        return len(sink.received()) == 1

    # HUP has no answer: nobody can see when it has been obeyed but by its effect.
    wait_until(has_arrived, "the mail has left by the new smart host")
    wait_until(lambda: home.queue() == [], "nothing is left of it")

    home.routes(dead)
    home.reload()
    send(home, "crash")
    wait_until_deferred(home, 4)
    home.kill_all()
    home.routes(f"b.example:{sink.route}", dead)
    home.start()
    home.command("queue", "flush")
    (parted,) = (message for message in sink.wait_for(2) if message.header("Subject") == "crash")
    assert parted.to == ["b@b.example"]
    wait_until(lambda: len(home.queue()) == 1 and "c@c.example" in str(home.queue()[0]), "the other one waits")
    assert "b@b.example" not in str(home.queue()[0])
    home.routes(f":{sink.route}")
    home.reload()
    home.command("queue", "flush")
    assert [message.to for message in sink.wait_for(3)][-1] == ["c@c.example"]
    assert subjects(sink) == ["reload", "crash", "crash"]
    wait_until(lambda: home.queue() == [], "nothing is left")

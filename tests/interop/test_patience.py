"""Slow, silent and many: what they do to themselves must not be felt by others."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import Ekiden
from tests.peers.processes import wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

IDLE = 1000
CONTENT = b"Subject: t\r\n\r\nhello\r\n"


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for the idle connections in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("too few file descriptors allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def deliver(ekiden: Ekiden, sink: Sink) -> None:
    """A message goes from door to sink, whatever others do, who would hold it up for ten minutes or longer."""
    before = len(sink.received())
    with dialogue(ekiden.port) as talk:
        assert talk.message(CONTENT, "a@a.example", "b@b.example")[0] == "2"
    sink.wait_for(before + 1)


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_idle_connections(home: Ekiden, sink: Sink) -> None:
    home.control("connectionsperclient", "2000")
    home.routes(f":{sink.route}")
    home.start()
    idle = [socket.create_connection(("127.0.0.1", home.port), timeout=60) for _ in range(IDLE)]
    try:
        assert all(connection.recv(3) == b"220" for connection in idle)
        deliver(home, sink)
    finally:
        for connection in idle:
            connection.close()


def test_connections_of_one_client_are_limited(home: Ekiden, sink: Sink) -> None:
    home.control("connectionsperclient", "10")
    home.control("smtpdprocesses", "1")
    home.routes(f":{sink.route}")
    home.start()
    held = [socket.create_connection(("127.0.0.1", home.port), timeout=60) for _ in range(10)]
    try:
        assert all(connection.recv(3) == b"220" for connection in held)
        with socket.create_connection(("127.0.0.1", home.port), timeout=60) as one_more:
            assert one_more.recv(3) in (b"421", b"")
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: _greets(home.port), "the client is welcome again")


def _greets(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return connection.recv(3) == b"220"


def test_clients_of_a_queue_that_does_nothing_are_told_to_come_back(home: Ekiden, sink: Sink) -> None:
    home.control("timeoutqueue", "2")
    home.control("inlinebytes", "10000")
    home.routes(f":{sink.route}")
    home.start()
    (queue,) = (pid for pid, role in home.roles().items() if role == "queue")
    os.kill(queue, signal.SIGSTOP)
    try:
        # The second time by a connection that nobody has accepted.
        for content in (CONTENT, CONTENT + b"x\r\n" * 50_000):
            with dialogue(home.port) as talk:
                reply = talk.message(content, "a@a.example", "b@b.example")
                assert reply == "451 4.3.0 queue unreachable, try again later"
        told = "connection to the queue lost: no answer for 2 seconds; 1 answers owed"
        wait_until(lambda: told in home.log(), "the administrator is told")
    finally:
        os.kill(queue, signal.SIGCONT)
    wait_until(lambda: _takes(home.port), "the queue is found again")


def _takes(port: int) -> bool:
    with dialogue(port) as talk:
        return talk.message(CONTENT, "a@a.example", "b@b.example").startswith("250")


def test_silent_client_is_let_go(home: Ekiden) -> None:
    home.control("timeoutsmtpd", "2")
    home.start()
    with dialogue(home.port) as talk:
        start = time.monotonic()
        said = talk.connection.recv(200)
        assert said == b"" or said.startswith(b"4")
        assert time.monotonic() - start > 1, "not at once"


def test_client_of_one_octet_at_a_time(relay: Ekiden, sink: Sink) -> None:
    whole = b"EHLO c\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"
    with dialogue(relay.port, ehlo="") as talk:
        for position in range(len(whole)):
            talk.send(whole[position : position + 1])
            time.sleep(0.002)
        assert [talk.reply()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        for octet in CONTENT + b".\r\n":
            talk.send(bytes([octet]))
        assert talk.reply()[0] == "2"
    assert sink.wait_for(1)[0].content.endswith(b"\r\n\r\nhello\r\n")


def test_client_that_vanishes_in_data(relay: Ekiden, sink: Sink) -> None:
    with dialogue(relay.port) as talk:
        for command in ("MAIL FROM:<a@a.example>", "RCPT TO:<b@b.example>", "DATA"):
            assert talk.say(command)[0] in "23"
        talk.send(b"Subject: half\r\n\r\nhalf a mess")
    deliver(relay, sink)
    assert [message.header("Subject") for message in sink.received()] == ["t"]


def test_silent_server_does_not_hold_up_others(home: Ekiden, make_sink: Callable[..., Sink], sink: Sink) -> None:
    silent = make_sink("--delay", "CONNECT=600")
    home.routes(f"silent.example:{silent.route}", f":{sink.route}")
    home.control("concurrencyremote", "30")
    home.start()
    with dialogue(home.port) as talk:
        for number in range(100):
            assert talk.message(CONTENT, "a@a.example", f"u{number}@silent.example")[0] == "2"
    deliver(home, sink)


@pytest.mark.parametrize(
    "options",
    [
        ["--delay", "{stage}=600"],
        ["--hangup", "{stage}"],
        ["--reply", "{stage}=451 4.3.0 later"],
        ["--reply", "{stage}=what is this?"],
    ],
    ids=["silence", "hanging up", "a temporary refusal", "nonsense"],
)
def test_a_server_at_fault_at_any_stage_defers(
    home: Ekiden, make_sink: Callable[..., Sink], options: list[str]
) -> None:
    """Six servers, each at fault at one stage; all else that they are asked they answer well."""
    stages = ["connect", "ehlo", "mail", "rcpt", "data", "dot"]
    routes = []
    for number, stage in enumerate(stages, 2):
        faulty = make_sink(*(word.format(stage=stage.upper()) for word in options), host=f"127.0.0.{number}")
        routes.append(f"{stage}.example:{faulty.route}")
    home.routes(*routes)
    for name in ("greeting", "helo", "mail", "rcpt", "datainit", "datablock", "dataend", "remote", "connect"):
        home.control(f"timeout{name}", "2")
    home.start()
    with dialogue(home.port) as talk:
        for stage in stages:
            assert talk.message(CONTENT, "a@a.example", f"b@{stage}.example")[0] == "2"
    wait_until(lambda: deferred(home) == {f"b@{stage}.example" for stage in stages}, "deferred", step=0.2)


def deferred(ekiden: Ekiden) -> set[str]:
    """The recipients that have been tried and are still queued."""
    recipients = [recipient for message in ekiden.queue() for recipient in message["recipients"]]
    return {recipient["recipient"] for recipient in recipients if recipient["attempts"] >= 1}


def test_slow_server_gets_its_mail(home: Ekiden, make_sink: Callable[..., Sink]) -> None:
    slow = make_sink("--delay", "CONNECT=1", "--delay", "RCPT=1", "--delay", "DOT=1")
    home.routes(f":{slow.route}")
    home.start()
    with dialogue(home.port) as talk:
        assert talk.message(CONTENT, "a@a.example", "b@b.example")[0] == "2"
    slow.wait_for(1)
    wait_until(lambda: home.queue() == [], "the queue is empty")

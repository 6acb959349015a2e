import asyncio
import json
import os
import re
import select
import socket
import threading

import pytest

from ekiden.base.outcome import MANGLED, Outcome, Verdict
from ekiden.runtime import log as log_module
from ekiden.runtime.log import DATAGRAM, KEPT, TOGETHER, Log, printable, safe
from ekiden.runtime.logreader import events

STAMP = re.compile(r"^\d{10}\.\d{6} ")


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    yield theirs, ours
    ours.close()
    theirs.close()


def text_of(datagram):
    """The lines of a datagram without their stamps, each of which is checked."""
    lines = datagram.decode().splitlines()
    assert all(STAMP.match(line) for line in lines)
    return [STAMP.sub("", line) for line in lines]


def say_everything(log):
    accepted = "192.10.10.2 accepted message.\nRemote host said: 250 2.0.0 100% ok\n"
    log.status(0, 10, 0, 20)
    log.new_message(5)
    log.info(5, 212, b"root@apollo.nix.co.jj", 7791, 0)
    log.starting(1, 5, "remote", b"haruo @nix.co.jj\n")
    log.status(0, 10, 1, 20, end=True)
    log.result(1, Outcome(Verdict.DELIVERED, "2.0.0", accepted, "192.10.10.2", "250 2.0.0 100% ok"))
    log.result(2, Outcome(Verdict.DEFERRED, "4.4.1", "Sorry, I wasn't able to\tconnect.\n"))
    log.result(3, Outcome(Verdict.FAILED, "5.1.1", "no such user: \u99c5\udce9\n"))
    log.result(4, MANGLED)
    log.bounce(5, 6)
    log.discarding(7, "triple")
    log.end(5)
    log.warning("trouble reading spool")
    log.alert("disk failed", path=b"/q\xff")
    log.event("connect", "smtpd: connect from 10.0.0.1\nand more\x1b", address="10.0.0.1")
    log.exiting()


LINES = [
    "status: local 0/10 remote 0/20",
    "new msg 5",
    "info msg 5: bytes 212 from <root@apollo.nix.co.jj> qp 7791 uid 0",
    "starting delivery 1: msg 5 to remote haruo_@nix.co.jj/",
    "status: local 0/10 remote 1/20 exitasap",
    "delivery 1: success: 192.10.10.2_accepted_message./Remote_host_said:_250_2.0.0_100__ok/",
    "delivery 2: deferral: Sorry,_I_wasn't_able_to_connect./",
    "delivery 3: failure: no_such_user:____?/",
    "delivery 4: report mangled, will defer",
    "bounce msg 5 qp 6",
    "triple bounce: discarding bounce/7",
    "end msg 5",
    "warning: trouble reading spool",
    "alert: disk failed",
    "smtpd: connect from 10.0.0.1/and more?",
    "status: exiting",
]


def test_lines_are_written_at_once_without_a_loop(pair):
    sink, ours = pair
    say_everything(Log("queue", sink))
    received = [text_of(ours.recv(DATAGRAM)) for _ in LINES]
    assert received == [[line] for line in LINES]


def test_lines_of_a_turn_are_one_datagram_with_one_stamp(pair):
    sink, ours = pair
    log = Log("queue", sink)

    async def role():
        log.attach(asyncio.get_running_loop())
        log.new_message(1)
        log.new_message(2)
        assert not select.select([ours], [], [], 0)[0]
        await asyncio.sleep(10 * TOGETHER)
        first = ours.recv(DATAGRAM)
        log.end(1)
        await asyncio.sleep(10 * TOGETHER)
        return first, ours.recv(DATAGRAM)

    first, second = asyncio.run(role())
    assert text_of(first) == ["new msg 1", "new msg 2"]
    assert len({line[:18] for line in first.splitlines()}) == 1
    assert text_of(second) == ["end msg 1"]


def test_exiting_does_not_wait_for_the_loop(pair):
    sink, ours = pair
    log = Log("queue", sink)

    async def role():
        log.attach(asyncio.get_running_loop())
        log.end(3)
        log.exiting()

    asyncio.run(role())
    assert text_of(ours.recv(DATAGRAM)) == ["end msg 3", "status: exiting"]


def test_json_has_every_field(pair):
    sink, ours = pair
    say_everything(Log("queue", sink, "json"))
    records = [json.loads(ours.recv(DATAGRAM)) for _ in LINES]
    assert [record["text"] for record in records] == LINES
    assert all(record["role"] == "queue" and record["time"] > 1e9 for record in records)
    assert records[2]["sender"] == "root@apollo.nix.co.jj" and records[2]["bytes"] == 212
    assert records[5]["event"] == "success" and records[5]["remote"] == "192.10.10.2"
    assert records[7]["report"] == "no such user: \u99c5\\udce9\n"
    assert records[13]["path"] == "/q\\xff"


def test_long_turns_are_split_between_lines(pair):
    sink, ours = pair
    log = Log("queue", sink)
    lines = [f"line {number:05d}" for number in range(10_000)]
    received = []

    async def role():
        log.attach(asyncio.get_running_loop())
        for line in lines:
            log.event("x", line)
        log.flush()

    def read_all():
        while len(received) < len(lines):
            datagram = ours.recv(100_000)
            assert len(datagram) <= DATAGRAM and datagram.endswith(b"\n")
            received.extend(text_of(datagram))

    reader = threading.Thread(target=read_all)
    reader.start()
    asyncio.run(role())
    reader.join()
    assert received == lines


def test_plain_descriptor():
    reading, writing = os.pipe()
    Log("queue", writing).new_message(9)
    assert text_of(os.read(reading, 1000)) == ["new msg 9"]
    os.close(reading)
    os.close(writing)


def test_a_full_sink_loses_nothing_until_the_bound_then_counts():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    log = Log("queue", writing)
    text = "x" * 981  # 1,000 octets with stamp and newline
    for _ in range(KEPT // 1000 + 500):
        log.event("x", text)
    log.new_message(1)
    received = b""
    while select.select([reading], [], [], 0)[0]:
        received += os.read(reading, KEPT)
        log.flush()
    lines = text_of(received)
    lost = int(re.fullmatch(r"warning: (\d+) lines of the log are lost", lines[-1]).group(1))
    assert lost > 0
    assert lines.count(text) + lines.count("new msg 1") + lost == KEPT // 1000 + 501
    os.close(reading)
    os.close(writing)


def test_a_sink_that_fails_is_tried_again_without_new_lines(monkeypatch):
    monkeypatch.setattr(log_module, "RETRY", 0.01)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filling = os.write(writing, b"x" * 1_000_000)

    async def role():
        log = Log("queue", writing)
        log.attach(asyncio.get_running_loop())
        log.new_message(1)
        await asyncio.sleep(0.03)
        os.read(reading, filling)
        await asyncio.sleep(0.05)

    asyncio.run(role())
    assert text_of(os.read(reading, 1000)) == ["new msg 1"]
    os.close(reading)
    os.close(writing)


def test_forked_child_leaves_pending_lines_to_its_parent(pair):
    sink, ours = pair
    log = Log("local", sink)

    async def role():
        log.attach(asyncio.get_running_loop())
        log.new_message(1)
        log.forked()  # as the child would
        log.event("child", "child speaks")
        return text_of(ours.recv(DATAGRAM))

    assert asyncio.run(role()) == ["child speaks"]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [(b"a b\nc%d\te\x00\xff", "a_b/c_d_e__"), (b"", ""), (b"!~", "!~")],
)
def test_safe_is_qmail_sends(octets, expected):
    assert safe(octets) == expected


def test_printable_keeps_spaces():
    assert printable("a b%\n\x7f\xe9") == "a b%/???"


@pytest.mark.parametrize("form", ["qmail", "json"])
def test_what_became_of_deliveries_can_be_read_back(tmp_path, pair, form):
    sink, ours = pair
    with (tmp_path / "ekiden.log").open("wb") as file:
        log = Log("queue", sink, form)
        outcomes = [Outcome(verdict, "", verdict.name) for verdict in Verdict] + [MANGLED]
        for number, outcome in enumerate(outcomes, start=1):
            log.starting(number, 5, "remote", b"a@b.example")
            log.result(number, outcome)
        for _ in range(2 * len(outcomes)):
            file.write(ours.recv(10_000))
    told = [event for event in events(tmp_path) if event["event"] != "starting"]
    assert [event["event"] for event in told] == ["success", "deferral", "failure", "deferral"]
    assert {(event["message"], event["recipient"]) for event in told} == {(5, "a@b.example")}


def test_a_fault_is_told_with_the_places_that_led_to_it(pair):
    sink, ours = pair
    log = Log("smtpd", sink)

    def deep(levels):
        return 1 / levels if levels < 1 else deep(levels - 1)

    with pytest.raises(ZeroDivisionError) as raised:
        deep(5)
    log.fault("smtp: 192.0.2.1", raised.value)
    line = ours.recv(DATAGRAM).decode()
    assert "alert: smtp: 192.0.2.1: ZeroDivisionError: division by zero (test_log.py:" in line
    assert line.count("test_log.py:") == 3
    log.fault("queue", MemoryError())
    assert ours.recv(DATAGRAM).endswith(b"alert: queue: MemoryError: \n")

"""QMTP and QMQP with the smtpd role: rules, answers, large content, clients that leave in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.roles.doorway import Doorway, doorway, wait_for
from tests.wire.netstrings import texts

from ekiden.wire.netstring import netstring


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doorway]:
    with doorway(tmp_path) as made:
        made.start_queue()
        yield made


def rules(door: Doorway, service: str, *lines: str) -> None:
    (door.home / "control" / f"tcp.{service}").write_text("".join(f"{line}\n" for line in lines))


def ask(door: Doorway, data: bytes, end: bool = True) -> bytes:
    """Everything that is answered."""
    with door.talk().connection as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(1)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def package(content: bytes, *recipients: bytes, sender: bytes = b"s@x.example") -> bytes:
    return netstring(content) + netstring(sender) + netstring(b"".join(map(netstring, recipients)))


def request(content: bytes, *recipients: bytes, sender: bytes = b"s@x.example") -> bytes:
    return netstring(b"".join(map(netstring, (content, sender, *recipients))))


NOT_LISTED = netstring(b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")


def test_qmtp_takes_what_smtp_takes(door: Doorway) -> None:
    rules(door, "qmtp", ':allow,TCPREMOTEHOST="client.example",TCPREMOTEINFO="jiro"')
    rules(door, "smtp", ":deny")
    door.start("qmtp", rcpthosts=frozenset({b"here.example"}))
    answers = ask(door, package(b"\nSubject: x\n\n\xe9\n", b"a@here.example", b"b@there.example", b"c@here.example"))
    first, ok, rest = answers.partition(b",")
    assert first[2:].startswith(b":Kok ") and rest == NOT_LISTED + first + ok
    (taken,) = door.taken()
    assert taken.envelope.sender == b"s@x.example"
    assert [each.address for each in taken.envelope.recipients] == [b"a@here.example", b"c@here.example"]
    assert taken.envelope.body == 1 and not taken.envelope.smtputf8
    assert (taken.origin.protocol, taken.origin.address) == ("QMTP", "127.0.0.1")
    mark, whence, by, *content = taken.content.split(b"\r\n")
    assert mark.startswith(b"Received: (qmail ") and b" invoked from network); " in mark
    assert whence == b"Received: from client.example (jiro@127.0.0.1)"
    assert by.startswith(b"  by mx.example with QMTP; ") and by.endswith(b" -0000")
    assert content == [b"Subject: x", b"", b"\xe9", b""]
    wait_for(lambda: "qmtp from <s@x.example> to <b@there.example>: 553 5.7.1" in door.log())


def test_relayclient_and_databytes_of_a_rule(door: Doorway) -> None:
    rules(door, "qmtp", '127.:allow,RELAYCLIENT="@relay.example",DATABYTES="10"')
    door.start("qmtp", rcpthosts=frozenset({b"here.example"}))
    answers = ask(
        door, package(b"\n123456789\n", b"b@there.example") + package(b"\n1234567890\n", b"b@there.example")
    )
    assert answers[2:].startswith(b":Kok ")
    assert answers.endswith(netstring(b"Dmessage size exceeds the limit of this host (#5.3.4)"))
    (taken,) = door.taken()
    assert [each.address for each in taken.envelope.recipients] == [b"b@there.example@relay.example"]


def test_what_the_queue_and_the_policy_refuse(door: Doorway) -> None:
    rules(door, "qmtp", ":allow")
    settings = {"badmailfrom": frozenset({b"@bad.example"}), "rcpthosts": frozenset({b"b"})}
    door.start("qmtp", hopsmax=3, **settings)
    loop = b"\r" + b"Received: x\r\n" * 3
    data = package(b"\nx\n", b"a@b", sender=b"reject@x") + package(loop, b"a@b")
    data += package(b"\nx\n", b"a@b", sender=b"s@bad.example") + package(b"\nReceived: x\n", b"a@b")
    said = texts(ask(door, data))
    assert said[:2] == [b"Zno room (#4.3.1)", b"Dtoo many hops, this message is looping (#5.4.6)"]
    assert said[2].startswith(b"Dsorry, your envelope sender is in") and said[3].startswith(b"Kok ")
    assert len(door.taken()) == 1
    ask(door, package(b"\nx\n", b"c@elsewhere", sender=b"s@bad.example") + package(b"\rx", b"a@b", sender=b""))
    for line in ("<reject@x> to <a@b>: 452", "<s@x.example> to <a@b>: 554", "<s@bad.example> to <c@elsewhere>: 553"):
        wait_for(lambda told=line: f"qmtp from {told}" in door.log())  # type: ignore[misc]


def test_large_content_goes_to_a_file(door: Doorway) -> None:
    door.start("qmtp", inlinebytes=1000)
    lines = b"".join(b"line %d\n" % number for number in range(400_000))
    assert ask(door, package(b"\n" + lines, b"a@b"))[2:].startswith(b":Kok ")
    (taken,) = door.taken()
    assert taken.spool
    assert taken.content.split(b"\r\n", 3)[3] == lines.replace(b"\n", b"\r\n")


def test_a_client_that_leaves_has_sent_nothing(door: Doorway) -> None:
    door.start("qmtp", inlinebytes=1000)
    whole = package(b"\n" + b"x" * 5000, b"a@b")
    for length in (1, 100, 4000, len(whole) - 1):
        assert ask(door, whole[:length]) == b""
    assert ask(door, whole)[2:].startswith(b":Kok ")
    wait_for(lambda: len(list((door.home / "spool").iterdir())) == 1)
    assert len(door.taken()) == 1


def test_malformed_input_ends_the_connection(door: Doorway) -> None:
    door.start("qmtp")
    assert ask(door, b"EHLO me\r\n", end=False) == b""
    assert ask(door, b"3:\nx\n;3:s@x,5:3:a@b,,", end=False) == b""
    assert ask(door, package(b"\nx\n", b"a@b"))[2:].startswith(b":Kok ")


def test_a_rule_denies(door: Doorway) -> None:
    rules(door, "qmtp", ":deny")
    door.start("qmtp")
    assert ask(door, package(b"\nx\n", b"a@b"), end=False) == b""
    assert door.taken() == []
    rules(door, "qmtp", "127.0.0.1:allow", ":deny")
    assert ask(door, package(b"\nx\n", b"a@b"))[2:].startswith(b":Kok ")
    rules(door, "qmtp", "127.:perhaps")
    assert ask(door, package(b"\nx\n", b"a@b"))[2:].startswith(b":Kok ")
    wait_for(lambda: "alert: " in door.log() and "tcp.qmtp" in door.log())


def test_silence_ends_the_connection(door: Doorway) -> None:
    door.start("qmtp", timeoutsmtpd=1)
    assert ask(door, b"5:\nx", end=False) == b""


def test_qmqp_is_for_clients_that_may_relay(door: Doorway) -> None:
    rules(door, "qmqp", '127.:allow,RELAYCLIENT=""')
    door.start("qmqp", rcpthosts=frozenset({b"here.example"}), databytes=3)
    answer = ask(door, request(b"Subject: x\n\nx\r\n", b"a@anywhere.example", b"b"), end=False)
    assert answer[2:].startswith(b":Kok ")
    (taken,) = door.taken()
    assert [each.address for each in taken.envelope.recipients] == [b"a@anywhere.example", b"b"]
    assert taken.origin.protocol == "QMQP"
    assert b"\r\n  by mx.example with QMQP; " in taken.content
    assert taken.content.endswith(b"\r\nSubject: x\r\n\r\nx\r\r\n")


@pytest.mark.parametrize("lines", [[], [":allow"], ['10.:allow,RELAYCLIENT=""'], ["127.:perhaps"]])
def test_qmqp_is_for_nobody_else(door: Doorway, lines: list[str]) -> None:
    if lines:
        rules(door, "qmqp", *lines)
    door.start("qmqp")
    assert ask(door, request(b"x\n", b"a@b"), end=False) == b""
    assert door.taken() == []


def test_without_a_queue_it_is_put_off(tmp_path: Path) -> None:
    with doorway(tmp_path) as made:
        rules(made, "qmqp", ':allow,RELAYCLIENT=""')
        (tmp_path / "run" / "intake").unlink()
        made.start("qmqp")
        assert b"Zqueue unreachable" in ask(made, request(b"x\n", b"a@b"), end=False)

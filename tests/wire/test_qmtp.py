"""The QMTP engine: whole, byte by byte, several packages, everything malformed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.netstrings import Driven, octets

from ekiden.wire.netstring import netstring
from ekiden.wire.qmtp import Session

NO = b"12:Dno (#5.7.1),"
GOOD = netstring(b"\nA: b\n\nx\n") + netstring(b"s@x") + netstring(netstring(b"a@y") + netstring(b"b@z"))


def package(content: bytes, sender: bytes = b"s@x", *recipients: bytes) -> bytes:
    return netstring(content) + netstring(sender) + netstring(b"".join(map(netstring, recipients or (b"a@y",))))


def driven(data: bytes, **limits: int) -> Driven:
    """What comes of the data: the same whatever pieces it comes in."""
    whole, bytewise = (Driven(Session(**limits), pieces) for pieces in ([data], octets(data)))
    assert vars(whole).keys() == vars(bytewise).keys()
    for name in ("messages", "output", "fault", "ended"):
        assert getattr(whole, name) == getattr(bytewise, name), name
    return whole


def test_a_package_as_it_is_on_the_wire() -> None:
    said = driven(b"9:\nA: b\n\nx\n,3:s@x,12:3:a@y,3:b@z,,")
    assert said.messages == [(b"A: b\r\n\r\nx\r\n", b"s@x", [b"a@y", b"b@z"])]
    assert said.output == b"5:Kok 1,5:Kok 1,"
    assert not said.ended


def test_packages_follow_each_other() -> None:
    said = driven(GOOD + package(b"\nlater\n") + GOOD + b"5:")
    assert len(said.messages) == 2
    assert said.output == b"5:Kok 1,5:Kok 1,15:Zlater (#4.3.0),5:Kok 2,5:Kok 2,"


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"\n", b""),
        (b"\r", b""),
        (b"\na\nb", b"a\r\nb"),
        (b"\na\r\nb", b"a\r\r\nb"),
        (b"\ra\r\nb\r\n", b"a\r\nb\r\n"),
        (b"\ra\nb\r\n", b"a\r\nb\r\n"),
        (b"\ra\rb\r", b"a\rb\r"),
        (b"\ra\r\r\nb", b"a\r\r\nb"),
        (b"\n\0\xff,:\n", b"\0\xff,:\r\n"),
    ],
)
def test_encodings(content: bytes, kept: bytes) -> None:
    assert driven(package(content)).messages == [(kept, b"s@x", [b"a@y"])]


@given(st.binary(max_size=60), st.lists(st.integers(0, 80), max_size=5))
def test_any_cut_gives_the_same_content(content: bytes, cuts: list[int]) -> None:
    data = package(b"\r" + content)
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    if b"later" not in content:
        unix = content.replace(b"\r\n", b"\n")
        assert Driven(Session(), pieces).messages == [(unix.replace(b"\n", b"\r\n"), b"s@x", [b"a@y"])]


def test_each_recipient_has_its_answer() -> None:
    said = driven(package(b"\nx\n", b"s@x", b"no@y", b"a@y", b"b\0@y", b"c" * 1000, b"no", b"b@y"))
    assert said.messages == [(b"x\r\n", b"s@x", [b"a@y", b"b@y"])]
    bad = netstring(b"Dthis recipient address cannot be handled (#5.1.3)")
    assert said.output == NO + b"5:Kok 1," + bad + bad + NO + b"5:Kok 1,"


def test_nobody_is_left_to_receive_it() -> None:
    said = driven(package(b"\nx\n", b"s@x", b"no@y") + GOOD)
    assert said.output == NO + b"5:Kok 1,5:Kok 1,"
    assert len(said.messages) == 1
    assert driven(netstring(b"\nx\n") + b"3:s@x,0:,").output == b""


def test_senders() -> None:
    assert driven(package(b"\nx\n", b"")).messages == [(b"x\r\n", b"", [b"a@y"])]
    assert driven(package(b"\nx\n", b"no@x")).output == NO
    bad = netstring(b"Dthis sender address cannot be handled (#5.1.7)")
    assert driven(package(b"\nx\n", b"s" * 1000, b"a@y", b"no@y")).output == bad + NO
    assert driven(package(b"\nx\n", b"s\0")).output == bad
    assert driven(package(b"\nx\n", b"s" * 999)).messages


def test_the_size_limit_counts_what_is_stored() -> None:
    assert driven(package(b"\r" + b"x\r\n" * 5), size_limit=10).messages
    said = driven(package(b"\r" + b"x\r\n" * 5, b"s@x", b"a@y", b"no@y") + package(b"\nabc\n"), size_limit=9)
    too_large = netstring(b"Dmessage size exceeds the limit of this host (#5.3.4)")
    assert said.output == too_large + NO + b"5:Kok 1,"


def test_too_many_recipients_are_put_off() -> None:
    said = driven(package(b"\nx\n", b"s@x", b"no@y", b"a@y", b"b@y", b"c@y"), recipients=2)
    assert said.messages == [(b"x\r\n", b"s@x", [b"a@y", b"b@y"])]
    assert said.output == NO + b"5:Kok 1,5:Kok 1," + netstring(b"Ztoo many recipients (#4.5.3)")


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b":",
        b"-1:",
        b" 1:",
        b"01:\n,",
        b"00:",
        b"0:,",
        b"3:xab,",
        b"3:\nab;",
        b"2000000001:",
        b"99999999999999999999",
        b"3:\nab,3:s@x;",
        b"3:\nab,3:s@x,x",
        b"3:\nab,3:s@x,5:5:a@y,,",
        b"3:\nab,3:s@x,6:3:a@y;,",
        b"3:\nab,3:s@x,6:3:a@y,;",
        b"3:\nab,3:s@x,7:3:a@y,1,",
        b"3:\nab,3:s@x,8:3:a@y,1:,",
    ],
)
def test_what_is_malformed_ends_the_session(data: bytes) -> None:
    said = driven(GOOD + data + GOOD)
    assert said.ended and said.fault
    assert len(said.messages) == 1
    assert said.output == b"5:Kok 1,5:Kok 1,"


@given(st.binary(max_size=80))
def test_noise_is_no_fault_of_ours(data: bytes) -> None:
    driven(data)


def test_an_answer_may_come_later() -> None:
    session = Session()
    session.receive(GOOD + GOOD)
    while not session.answering:
        session.next_event()
    assert session.next_event() is None and not session.choked and not session.idle
    session.receive(b"x" * 70_000)
    assert session.choked
    session.accept()
    assert not session.choked


def test_farewell_says_nothing() -> None:
    session = Session()
    session.receive(GOOD[:20])
    while session.next_event():
        pass
    session.farewell()
    assert session.next_event() == (None,)
    assert session.next_event() is None and session.output() == b""

"""The QMQP engine: whole, byte by byte, with trailing data, everything malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.netstrings import Driven, octets

from ekiden.wire.netstring import netstring
from ekiden.wire.qmqp import Session


def request(content: bytes, *addresses: bytes) -> bytes:
    return netstring(b"".join(map(netstring, (content, *(addresses or (b"s@x", b"a@y"))))))


def driven(data: bytes, size_limit: int = 0) -> Driven:
    """What comes of the data: the same whatever pieces it comes in."""
    whole, bytewise = (Driven(Session(size_limit), pieces) for pieces in ([data], octets(data)))
    for name in ("messages", "output", "fault", "ended"):
        assert getattr(whole, name) == getattr(bytewise, name), name
    return whole


@pytest.mark.parametrize("trailing", [b"", b"x", b"33:10:A: b\n\nx\r\0\xff,3:s@x,3:a@y,3:b@z,,"])
def test_a_request_as_it_is_on_the_wire(trailing: bytes) -> None:
    said = driven(b"32:10:A: b\n\nx\r\0\xff,3:s@x,3:a@y,3:b@z,," + trailing)
    assert said.messages == [(b"A: b\r\n\r\nx\r\0\xff", b"s@x", [b"a@y", b"b@z"])]
    assert said.output == b"5:Kok 1,"
    assert said.ended and said.fault == ""


def test_an_empty_message_for_nobody() -> None:
    said = driven(b"6:0:,0:,,")
    assert said.messages == [(b"", b"", [])]
    assert said.output == b"5:Kok 1,"


@pytest.mark.parametrize(
    ("data", "output"),
    [
        (request(b"later\n"), b"15:Zlater (#4.3.0),"),
        (request(b"x", b"no@x", b"a@y"), b"12:Dno (#5.7.1),"),
        (request(b"x", b"s@x", b"a@y", b"no@y", b"b@y"), b"12:Dno (#5.7.1),"),
        (request(b"x", b"s\0", b"a@y"), netstring(b"Dthis sender address cannot be handled (#5.1.7)")),
        (request(b"x", b"s", b"a" * 1000), netstring(b"Dthis recipient address cannot be handled (#5.1.3)")),
        (request(b"x" * 101), netstring(b"Dmessage size exceeds the limit of this host (#5.3.4)")),
    ],
)
def test_one_answer_for_all(data: bytes, output: bytes) -> None:
    said = driven(data, size_limit=100)
    assert said.messages == [] and said.output == output
    assert said.ended and said.fault == ""


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"06:0:,0:,,",
        b"6:0:,0:,;",
        b"5:0:,0:,,",
        b"7:0:,0:,,",
        b"6:1:,0:,,",
        b"3:0:,,",
        b"2000000001:",
        b"13:10:A: b\n\nx\n\n,",
    ],
)
def test_what_is_malformed_ends_the_session(data: bytes) -> None:
    said = driven(data + b"," * 20)
    assert said.ended and said.fault
    assert said.messages == [] and said.output == b""


@given(st.binary(max_size=80))
def test_noise_is_no_fault_of_ours(data: bytes) -> None:
    driven(data)

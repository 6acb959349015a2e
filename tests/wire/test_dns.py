"""Questions to DNS servers and their answers, beside dnspython's."""

from __future__ import annotations

import contextlib

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.dns import AAAA, PTR, TXT, A, Answer, BadAnswer, BadName, decode_answer, encode_name, encode_query

NAME = "a.Example.org"


def answered(kind: str, *records: str, number: int = 7, code: int = 0) -> tuple[bytes, bytes]:
    """A query and a server's answer to it; each record is ``type data`` or ``owner type data``."""
    query = encode_query(number, NAME.encode(), {"A": A, "AAAA": AAAA, "PTR": PTR, "TXT": TXT}[kind])
    response = dns.message.make_response(dns.message.from_wire(query))
    response.set_rcode(code)
    for record in records:
        owner, record_type, data = record.split(" ", 2)
        response.answer.append(dns.rrset.from_text(owner, 60, "IN", record_type, data))
    return query, response.to_wire()


def test_a_query_is_what_others_send() -> None:
    message = dns.message.from_wire(encode_query(513, NAME.encode(), TXT))
    assert (message.id, message.flags, len(message.question)) == (513, dns.flags.RD, 1)
    assert message.question[0].to_text() == "a.Example.org. IN TXT"


@pytest.mark.parametrize(
    ("kind", "records", "data"),
    [
        ("A", ["a.example.org. A 192.0.2.1", "a.example.org. A 192.0.2.2"], [b"\xc0\0\2\1", b"\xc0\0\2\2"]),
        ("A", ["a.example.org. CNAME b.example.org.", "b.example.org. A 192.0.2.1"], [b"\xc0\0\2\1"]),
        ("AAAA", ["a.example.org. AAAA ::1"], [b"\0" * 15 + b"\1"]),
        ("PTR", ["a.example.org. PTR Host.Example.org."], [b"host.example.org"]),
        ("PTR", ["a.example.org. PTR ."], [b""]),
        ("TXT", ['a.example.org. TXT "one, " "two"', 'a.example.org. TXT "three"'], [b"one, two", b"three"]),
        ("TXT", ['a.example.org. TXT ""'], [b""]),
        ("A", [], []),
        ("A", ["a.example.org. MX 1 b.example.org."], []),
    ],
)
def test_answers(kind: str, records: list[str], data: list[bytes]) -> None:
    query, packet = answered(kind, *records)
    assert decode_answer(packet, query) == Answer(0, False, data)
    for end in range(len(packet)):
        with contextlib.suppress(BadAnswer):
            # Cut within the last record's data nothing else can come out, and never another error.
            assert decode_answer(packet[:end], query).data != data or not data


def test_a_refusal_and_a_truncated_answer() -> None:
    query, packet = answered("A", code=3)
    assert decode_answer(packet, query) == Answer(3, False, [])
    query, packet = answered("A", "a.example.org. A 192.0.2.1")
    assert decode_answer(packet[:2] + bytes([packet[2] | 2]) + packet[3:], query) == Answer(0, True, ())


def test_an_answer_to_another_question_is_none() -> None:
    query, packet = answered("A", "a.example.org. A 192.0.2.1")
    for foreign in (b"\0\0" + packet[2:], query, encode_query(7, b"b.example.org", A), b""):
        with pytest.raises(BadAnswer):
            decode_answer(foreign, query)
    with pytest.raises(BadAnswer):
        decode_answer(packet, encode_query(7, b"b.example.org", A))


def test_a_name_that_points_at_itself() -> None:
    query, packet = answered("PTR", "a.example.org. PTR b.example.org.")
    place = len(packet) - len(b"\1b\xc0\x0e")
    looped = packet[:place] + b"\xc0" + bytes([place]) + packet[place + 2 :]
    with pytest.raises(BadAnswer):
        decode_answer(looped, query)


@pytest.mark.parametrize("name", [b"x" * 64, b"a." * 128])
def test_names_that_cannot_be(name: bytes) -> None:
    with pytest.raises(BadName):
        encode_name(name)


def test_dots_too_many() -> None:
    assert encode_name(b".a..b.") == encode_name(b"a.b") == b"\1a\1b\0"
    assert encode_name(b".") == encode_name(b"") == b"\0"


@given(st.binary(max_size=200))
def test_octets_of_any_kind(noise: bytes) -> None:
    query, packet = answered("TXT", 'a.example.org. TXT "x"')
    for octets in (noise, packet[:2] + noise, packet[: len(query)] + noise):
        with contextlib.suppress(BadAnswer):
            decode_answer(octets, query)

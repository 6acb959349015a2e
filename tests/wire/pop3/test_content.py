"""Messages on the wire: by pieces as whole, measured right, dots and line ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.lines import DotReader
from ekiden.wire.pop3.content import END, Measure, octets, pieces, top, whole

messages = st.lists(
    st.sampled_from([b"a", b".", b"\n", b"\r\n", b"\r", b"..", b"Subject: x", b"\n\n", b"\r\n\r\n", b"\xe6"]),
    max_size=20,
).map(b"".join)


def cut(message: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(message)) for place in cuts), len(message)]
    return [message[a:b] for a, b in itertools.pairwise(places) if b > a]


@given(messages, st.lists(st.integers(0, 40), max_size=6))
def test_pieces_are_the_whole(message: bytes, cuts: list[int]) -> None:
    assert b"".join(pieces(cut(message, cuts))) == whole(message)


@given(messages, st.lists(st.integers(0, 40), max_size=6))
def test_octets_are_what_a_client_reads(message: bytes, cuts: list[int]) -> None:
    read, rest = DotReader().read(whole(message) + END + b"next")
    assert rest == b"next"
    assert octets(message) == len(read)
    measure = Measure()
    for piece in cut(message, cuts):
        measure.add(piece)
    assert measure.octets == octets(message)
    assert read.replace(b"\r\n", b"\n").rstrip(b"\n") == message.replace(b"\r\n", b"\n").rstrip(b"\n")


def by_lines(message: bytes, lines: int) -> bytes:
    """TOP the slow way."""
    kept, body = [], None
    for line in message.splitlines(keepends=True) if b"\r" not in message else _split(message):
        if body is None:
            kept.append(line)
            body = lines if line in (b"\n", b"\r\n") else None
        elif body:
            kept.append(line)
            body -= 1
    return b"".join(kept)


def _split(message: bytes) -> list[bytes]:
    return [line for line in message.replace(b"\n", b"\n\0").split(b"\0") if line]


@given(messages, st.lists(st.integers(0, 40), max_size=6), st.integers(0, 4))
def test_top(message: bytes, cuts: list[int], lines: int) -> None:
    assert b"".join(top(cut(message, cuts), lines)) == by_lines(message, lines)


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (b"", b""),
        (b"\n", b"\r\n"),
        (b"a", b"a\r\n"),
        (b"a\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b".\n", b"..\r\n"),
        (b"a\n.b\r\n..", b"a\r\n..b\r\n...\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"From x\n", b"From x\r\n"),
    ],
)
def test_examples(message: bytes, sent: bytes) -> None:
    assert whole(message) == sent

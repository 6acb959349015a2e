"""Line ends, in pieces of every size."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.carriage import Inserter, Remover, add_cr, without_cr

TEXTS = st.lists(st.text(alphabet="a\r\n", max_size=6).map(str.encode), max_size=6)


def removed(pieces: list[bytes]) -> bytes:
    remover = Remover()
    text = b"".join(remover.feed(piece) for piece in pieces) + remover.finish()
    kept = list(without_cr(pieces))
    assert b"".join(kept) == text and all(kept)
    return text


def inserted(pieces: list[bytes]) -> bytes:
    inserter = Inserter()
    return b"".join(inserter.feed(piece) for piece in pieces)


@pytest.mark.parametrize(
    ("text", "without", "with_all", "doubled"),
    [
        (b"", b"", b"", b""),
        (b"a\n", b"a\n", b"a\r\n", b"a\r\n"),
        (b"a\r\nb", b"a\nb", b"a\r\nb", b"a\r\r\nb"),
        (b"\n\r\n\r", b"\n\n\r", b"\r\n\r\n\r", b"\r\n\r\r\n\r"),
        (b"a\r\r\nc\rd", b"a\r\nc\rd", b"a\r\r\nc\rd", b"a\r\r\r\nc\rd"),
    ],
)
def test_each_way(text: bytes, without: bytes, with_all: bytes, doubled: bytes) -> None:
    single = [bytes([octet]) for octet in text]
    for pieces in ([text], single, [*single, b""]):
        assert removed(pieces) == without
        assert inserted(pieces) == with_all
        assert b"".join(map(add_cr, pieces)) == doubled


@given(TEXTS)
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert removed(pieces) == re.sub(rb"\r\n", b"\n", whole)
    assert inserted(pieces) == re.sub(rb"(?<!\r)\n", b"\r\n", whole)

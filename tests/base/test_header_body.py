"""Messages from files: where the header ends."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.header_body import HeaderBody, field_name, field_text


def read(data: bytes) -> tuple[list[bytes], bytes]:
    message = HeaderBody(io.BytesIO(data))
    return list(message.fields()), b"".join(message.body())


@pytest.mark.parametrize(
    ("data", "fields", "body"),
    [
        (b"", [], b""),
        (b"\nx", [], b"\nx\n"),
        (b"A: b\n c\nD: e\n\nx\ny\n", [b"A: b\n c\n", b"D: e\n"], b"\nx\ny\n"),
        (b"A: b", [b"A: b\n"], b""),
        (b"A: b\n c", [b"A: b\n c\n"], b""),
        (b"A: b\nno field\nx\n", [b"A: b\n"], b"\nno field\nx\n"),
        (b" A: b\n", [], b"\n A: b\n"),
        (b"From a b\nA: b\n\n", [b"MBOX-Line: From a b\n", b"A: b\n"], b"\n"),
        (b"A\xe9: b\n", [], b"\nA\xe9: b\n"),
        (b": b\n", [], b"\n: b\n"),
        (b"A \t: b\n\n", [b"A \t: b\n"], b"\n"),
    ],
)
def test_parts(data: bytes, fields: list[bytes], body: bytes) -> None:
    assert read(data) == (fields, body)


def test_a_field_in_pieces() -> None:
    assert field_name(b"Reply-To \t: a") == b"reply-to"
    assert field_name(b"no field") == b""
    assert field_text(b"Subject:\n  hello\n there\n") == b"hello\n there\n"


@given(st.text("aA: \n\t\xe9", max_size=60))
def test_nothing_is_lost(text: str) -> None:
    data = text.encode("latin-1")
    fields, body = read(data)
    together = b"".join(fields) + body
    assert together.replace(b"\n", b"") == data.replace(b"\n", b"")
    assert all(field_name(field) for field in fields)
    assert not body or body.startswith(b"\n")

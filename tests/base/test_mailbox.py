"""Addresses as tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.mailbox import ATOM, COMMENT, LITERAL, QUOTE, Malformed, needs_quote, parse, quote, unparse, unquote

MAILBOXES = st.binary(max_size=60) | st.text('ab.@<>,:;()[]"\\ \t\n\xe9', max_size=30).map(
    lambda text: text.encode("latin-1")
)


@pytest.mark.parametrize(
    ("text", "written", "address"),
    [
        (b"a@b", b"a@b", b"a@b"),
        (b" a . b @ c . d ", b"a.b@c.d", b"a.b@c.d"),
        (b'"The Almighty".One@x', b'"The Almighty".One@x', b"The Almighty.One@x"),
        (b'"a\\"quote"@x', b'"a\\"quote"@x', b'a"quote@x'),
        (b"a\\@b@c", b'"a@b"@c', b"a@b@c"),
        (b"a (some (nested) words\\)) @b", b"a (some nested words\\))@b", b"a@b"),
        (b"a@[1.2.3.4]", b"a@[1.2.3.4]", b"a@[1.2.3.4]"),
        (b"a\r\n\t@b", b"a@b", b"a@b"),
        (b"=?utf-8?Q?J=C3=BCrgen?= <a@b>", b"=?utf-8?Q?J=C3=BCrgen?= <a@b>", b"=?utf-8?Q?J=C3=BCrgen?=<a@b>"),
        (b"J\xc3\xbcrgen <a@b>", b'"J\xc3\xbcrgen" <a@b>', b"J\xc3\xbcrgen<a@b>"),
        (b"", b"", b""),
    ],
)
def test_read_and_written(text: bytes, written: bytes, address: bytes) -> None:
    assert unparse(parse(text)) == written + b"\n"
    assert unquote(parse(text)) == address


@pytest.mark.parametrize("text", [b")", b"]", b"a )", b"(a", b"(a (b)", b'"a', b'"a\\"', b"[a", b"[a\\"])
def test_what_is_not_closed_or_opened(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse(text)


def test_kinds() -> None:
    assert parse(b'a "b" [c] (d) e\\ f') == [(ATOM, b"a"), (QUOTE, b"b"), (LITERAL, b"c"), (COMMENT, b"d"),
                                             (QUOTE, b"e f")]  # fmt: skip
    assert parse(b"a)b \x01 c\\") == [(QUOTE, b"a)b"), (QUOTE, b"\x01"), (ATOM, b"c")]


def test_lists_are_folded_at_commas() -> None:
    names = [b"person%02d@example.com" % number for number in range(8)]
    written = unparse(parse(b"To: " + b",".join(names)))
    assert written == (
        b"To: person00@example.com, person01@example.com, person02@example.com,\n"
        b"  person03@example.com, person04@example.com, person05@example.com,\n"
        b"  person06@example.com, person07@example.com\n"
    )
    assert unparse(parse(b"To: " + b"a" * 90 + b", b")) == b"To: " + b"a" * 90 + b",\n  b\n"


@pytest.mark.parametrize(
    ("address", "quoted"),
    [
        (b"", b""),
        (b"a.b+c=d@e", b"a.b+c=d@e"),
        (b"a b@c", b'"a b"@c'),
        (b"a@b@c", b'"a@b"@c'),
        (b'a"\\b@c', b'"a\\"\\\\b"@c'),
        (b".a@b", b'".a"@b'),
        (b"a..b@c", b'"a..b"@c'),
        (b"@c", b'""@c'),
        (b"a b", b'"a b"'),
        (b"\xe9@c", b'"\xe9"@c'),
    ],
)
def test_quoting(address: bytes, quoted: bytes) -> None:
    assert quote(address) == quoted
    assert unquote(parse(quoted)) == address
    assert needs_quote(address.rpartition(b"@")[0] or address) == (quote(address) != address) or not address


@pytest.mark.parametrize("escaped", [b"\\ ", b"a\\,b@c", b"a\\@b", b"\\<x", b"a\\.b"])
def test_what_was_escaped_in_an_atom_stays_text(escaped: bytes) -> None:
    tokens = parse(escaped)
    assert tokens[0][0] == QUOTE
    assert parse(unparse(tokens)) == tokens


@given(MAILBOXES)
def test_anything_is_read_or_refused(text: bytes) -> None:
    try:
        tokens = parse(text)
    except Malformed:
        return
    written = unparse(tokens)
    assert written.endswith(b"\n")
    if not any(kind == ATOM and not value for kind, value in tokens):
        assert unquote(parse(written)) == unquote(tokens)


@given(st.binary(max_size=30), st.from_regex(rb"\A[a-z]{1,5}(\.[a-z]{1,5}){0,2}\Z"))
def test_any_local_part_survives_quoting(local: bytes, domain: bytes) -> None:
    assert unquote(parse(quote(local + b"@" + domain))) == local + b"@" + domain

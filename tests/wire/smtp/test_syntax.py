"""Paths, quoting and xtext."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.smtp.syntax import decode_xtext, encode_xtext, is_xtext, parse_path, quote, unquote

PATHS = [
    (b"<jiro@nix.co.jj>", b"jiro@nix.co.jj", b""),
    (b"<jiro@nix.co.jj> SIZE=1", b"jiro@nix.co.jj", b" SIZE=1"),
    (b" <jiro@nix.co.jj>", b"jiro@nix.co.jj", b""),
    (b"<>", b"", b""),
    (b" <> BODY=7BIT", b"", b" BODY=7BIT"),
    (b"<postmaster>", b"postmaster", b""),
    (b"jiro@nix.co.jj SIZE=1", b"jiro@nix.co.jj", b" SIZE=1"),
    (b"<@a.example,@b.example:jiro@nix.co.jj>", b"jiro@nix.co.jj", b""),
    (b'<"a b"@host>', b"a b@host", b""),
    (b'<"a@b"@host>', b"a@b@host", b""),
    (b'<"a\\"b\\\\c"@host>', b'a"b\\c@host', b""),
    (b'<"a>b"@host> X', b"a>b@host", b" X"),
    (b'<""@host>', b"@host", b""),
    (b'<a."b c".d@host>', b"a.b c.d@host", b""),
    (b"<a\\@b@host>", b"a@b@host", b""),
    (b"<.a..b.@host>", b".a..b.@host", b""),
    (b"<jiro@[192.10.10.2]>", b"jiro@[192.10.10.2]", b""),
    (b"<jiro@[IPv6:2001:db8::1]>", b"jiro@[IPv6:2001:db8::1]", b""),
    ("<次郎@例え.jp>".encode(), "次郎@例え.jp".encode(), b""),
]


@pytest.mark.parametrize(("text", "address", "rest"), PATHS)
def test_path(text: bytes, address: bytes, rest: bytes) -> None:
    assert parse_path(text) == (address, rest)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"<",
        b"<jiro@nix.co.jj",
        b"<jiro@nix.co.jj>>"[:-2],
        b"<victim@elsewhere@ours>",
        b'<"victim@elsewhere">',
        b"<victim\\@elsewhere>",
        b"<@ours:victim@elsewhere@ours>",
        b"<jiro@>",
        b"<jiro@a..b>",
        b"<jiro@.b>",
        b"<jiro@b.>",
        b"<@host>",
        b"<ji ro@host>",
        b"<jiro@ho st>",
        b"<ji\x00ro@host>",
        b'<"ji\nro"@host>',
        b"<a(b)@host>",
        b"<<jiro@host>>",
        b'<"jiro@host>',
        b"<" + b"a" * 900 + b"@host>",
    ],
)
def test_no_path(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_path(text)


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        (b"", b""),
        (b"jiro@host", b"jiro@host"),
        (b"postmaster", b"postmaster"),
        (b"a b@host", b'"a b"@host'),
        (b"a@b@host", b'"a@b"@host'),
        (b".a@host", b'".a"@host'),
        (b"a..b@host", b'"a..b"@host'),
        (b'a"b\\c@host', b'"a\\"b\\\\c"@host'),
        (b"@host", b'""@host'),
        (b"two words", b'"two words"'),
    ],
)
def test_quote(address: bytes, wire: bytes) -> None:
    assert quote(address) == wire
    assert unquote(wire) == address


@pytest.mark.parametrize("address", [b"a\r\nb@host", b"a@ho st", b"a@host>", b"a@", b"a@ho\nst", b"a\x00@host"])
def test_unspeakable(address: bytes) -> None:
    with pytest.raises(ValueError):
        quote(address)


@given(st.binary(max_size=40), st.sampled_from([b"host", b"nix.co.jj", b"[192.10.10.2]"]))
def test_quote_and_path_are_inverse(local: bytes, domain: bytes) -> None:
    address = local + b"@" + domain
    try:
        wire = quote(address)
    except ValueError:
        assert any(octet < 32 or octet == 127 for octet in local)
        return
    assert unquote(wire) == address
    assert parse_path(b"<" + wire + b"> X=1") == (address, b" X=1")


@given(st.binary(max_size=60))
def test_any_octets_are_a_path_or_an_error(text: bytes) -> None:
    try:
        address, rest = parse_path(text)
    except ValueError:
        return
    assert text.endswith(rest)
    assert quote(address) is not None


@given(st.binary())
def test_xtext(value: bytes) -> None:
    encoded = encode_xtext(value)
    assert is_xtext(encoded)
    assert decode_xtext(encoded) == value


@pytest.mark.parametrize("value", [b"a b", b"a=b", b"a+", b"a+2", b"a+2g", b"a+0a", b"\x80"])
def test_no_xtext(value: bytes) -> None:
    assert not is_xtext(value)
    with pytest.raises(ValueError):
        decode_xtext(value)

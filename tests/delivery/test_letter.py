"""The lines put in front of a message, and the variables that programs get."""

from __future__ import annotations

import os

import pytest

from ekiden.delivery.content import WireContent
from ekiden.delivery.letter import Letter, quoted


def letter(**changes: bytes) -> Letter:
    values = {
        "user": b"joe",
        "home": b"/home/joe",
        "local": b"joe-a-B-c-d-e",
        "dash": b"-",
        "ext": b"a-B-c-d-e",
        "domain": b"mail.nix.co.jj",
        "sender": b"root@nix.co.jj",
        "default": b"./Mailbox",
    }
    return Letter(**(values | changes), content=WireContent(b""), when=0.0)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"", b""),
        (b"a@b", b"a@b"),
        (b"a.b+c@d", b"a.b+c@d"),
        (b"#@[]", b"#@[]"),
        (b"a b@c", b'"a b"@c'),
        (b'a"b\\@c', b'"a\\"b\\\\"@c'),
        (b"a@b@c", b'"a@b"@c'),
        (b".a@b", b'".a"@b'),
        (b"a.@b", b'"a."@b'),
        (b"a..a@b", b'"a..a"@b'),
        (b"@b", b'""@b'),
        (b"postmaster", b"postmaster"),
        (b"two words", b'"two words"'),
        ("jürgen@b".encode(), "jürgen@b".encode()),
        (b"a\nb@c", b'"a\\\nb"@c'),
    ],
)
def test_quoting(address: bytes, expected: bytes) -> None:
    assert quoted(address) == expected


def test_fields() -> None:
    assert letter().delivered_to == b"Delivered-To: joe-a-B-c-d-e@mail.nix.co.jj\n"
    assert letter().return_path == b"Return-Path: <root@nix.co.jj>\n"
    assert letter(sender=b"").return_path == b"Return-Path: <>\n"


def test_no_address_can_begin_a_line_of_its_own() -> None:
    assert letter(local=b"a\nb").delivered_to == b"Delivered-To: a_b@mail.nix.co.jj\n"
    assert letter(sender=b"a\nBcc: b@c").return_path.count(b"\n") == 1


@pytest.mark.parametrize(
    ("sender", "word"), [(b"a@b", b"a@b"), (b"", b"MAILER-DAEMON"), (b"a b\tc\nd@e", b"a-b-c-d@e")]
)
def test_from_line(sender: bytes, word: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    line = letter(sender=sender).from_line
    assert line.startswith(b"From " + word + b" ")
    assert len(line) == len(b"From  \n") + len(word) + 24


def test_environment() -> None:
    variables = letter().environment(b"joe-owner@x", b"d-e")
    assert variables[b"SENDER"] == b"root@nix.co.jj"
    assert variables[b"NEWSENDER"] == b"joe-owner@x"
    assert variables[b"RECIPIENT"] == b"joe-a-B-c-d-e@mail.nix.co.jj"
    assert variables[b"USER"] == b"joe"
    assert variables[b"HOME"] == b"/home/joe"
    assert [variables[name] for name in (b"HOST", b"HOST2", b"HOST3", b"HOST4")] == [
        b"mail.nix.co.jj",
        b"mail.nix.co",
        b"mail.nix",
        b"mail",
    ]
    assert [variables[name] for name in (b"EXT", b"EXT2", b"EXT3", b"EXT4")] == [
        b"a-B-c-d-e",
        b"B-c-d-e",
        b"c-d-e",
        b"d-e",
    ]
    assert variables[b"LOCAL"] == b"joe-a-B-c-d-e"
    assert variables[b"DEFAULT"] == b"d-e"
    assert variables[b"DTLINE"].endswith(b"\n")
    assert variables[b"RPLINE"].endswith(b"\n")
    assert variables[b"UFLINE"].startswith(b"From root@nix.co.jj ")


def test_a_host_without_dots_stays_itself() -> None:
    variables = letter(domain=b"localhost", ext=b"").environment(b"", None)
    assert variables[b"HOST4"] == b"localhost"
    assert variables[b"EXT2"] == b""
    assert b"DEFAULT" not in variables
    assert os.fsencode("HOST5") not in variables

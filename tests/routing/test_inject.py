"""Completing addresses, and the sender that the environment names."""

from __future__ import annotations

import pytest

from ekiden.base.mailbox import Malformed, unparse, unquote
from ekiden.routing.inject import Defaults, Sender

DEFAULTS = Defaults(b"silverton", b"berkeley.edu", b"eecs.example", b"id.example")


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        (b"djb", b"djb@silverton.berkeley.edu"),
        (b"djb@silverton", b"djb@silverton.berkeley.edu"),
        (b"djb@a.b", b"djb@a.b"),
        (b"eric@mammoth.cs+", b"eric@mammoth.cs.eecs.example"),
        (b"eric@mammoth+", b"eric@mammoth.eecs.example"),
        (b"djb@[1.2.3.4]", b"djb@[1.2.3.4]"),
        (b"djb@", b"djb@silverton.berkeley.edu"),
        (b"djb@a.", b"djb@a.berkeley.edu"),
        (b"", b""),
        (b"#@[]", b"#@[]"),
        (b"x y", b"x y@silverton.berkeley.edu"),
        (b"a@b@c.d", b"a@b@c.d"),
        (b"a+", b"a+@silverton.berkeley.edu"),
    ],
)
def test_addresses_are_completed(given: bytes, complete: bytes) -> None:
    assert DEFAULTS.complete_address(given) == complete


def test_routes_are_dropped() -> None:
    from ekiden.base.mailbox import parse

    assert unquote(DEFAULTS.complete(parse(b"@brl.mil,@x:a@b.c"))) == b"a@b.c"
    assert DEFAULTS.complete(parse(b"@brl.mil")) == []
    assert DEFAULTS.complete(parse(b".")) == []


def test_a_domain_that_is_none() -> None:
    with pytest.raises(Malformed):
        Defaults(b"(", b"b", b"c", b"d")


@pytest.mark.parametrize(
    ("environment", "field"),
    [
        ({}, b"From: anonymous"),
        ({b"LOGNAME": b"l"}, b"From: l"),
        ({b"LOGNAME": b"l", b"USER": b"u"}, b"From: u"),
        ({b"USER": b"u", b"MAILUSER": b"m", b"QMAILUSER": b"q"}, b"From: q"),
        ({b"USER": b"u", b"MAILHOST": b"m.x", b"QMAILHOST": b"q.x"}, b"From: u@q.x"),
        ({b"USER": b"u", b"NAME": b"A B"}, b'From: "A B" <u>'),
        ({b"USER": b"u", b"NAME": b"n", b"MAILNAME": b"m", b"QMAILNAME": b"q"}, b'From: "q" <u>'),
        ({b"USER": b"u", b"NAME": b"A B", b"QMAILINJECT": b"c"}, b"From: u (A B)"),
        ({b"USER": b"a b"}, b'From: "a b"'),
    ],
)
def test_from(environment: dict[bytes, bytes], field: bytes) -> None:
    assert Sender(environment).from_field() == field + b"\n"


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({b"USER": b"u"}, b"u"),
        ({b"USER": b"u", b"QMAILHOST": b"h.x"}, b"u@h.x"),
        ({b"USER": b"u", b"QMAILSUSER": b"s", b"QMAILSHOST": b"t.x", b"QMAILHOST": b"h.x"}, b"s@t.x"),
        ({b"USER": b"u", b"QMAILINJECT": b"r"}, b"u-"),
        ({b"USER": b"u", b"QMAILINJECT": b"mr"}, b"u-1234.56-"),
    ],
)
def test_return_path(environment: dict[bytes, bytes], path: bytes) -> None:
    tokens = Sender(environment).return_path(1234.9, 56)
    assert unquote(tokens) == path
    assert unparse(tokens).startswith(b'"')

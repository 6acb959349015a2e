"""What each kind of control file may hold, and what is said about anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.settings.catalogue import CATALOGUE, control_file
from ekiden.settings.description import MANY, Kind
from ekiden.settings.file import ControlFile
from ekiden.settings.values import is_relay, parse


def parsed(name: str, raw: bytes) -> tuple[Any, list[str]]:
    """The value, and the problems as text."""
    file = ControlFile(control_file(name), raw)
    return parse(name, CATALOGUE[name], file), [str(problem) for problem in file.problems]


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("databytes", b"0", 0),
        ("databytes", b"1000000 \t\nignored", 1000000),
        ("databytes", b"007\n", 7),
        ("databytes", b"", None),
        ("databytes", b"\n5\n", None),
        ("concurrencyremote", b"99999999\n", 10_000),
        ("concurrencyremote", b"9" * 5000, 10_000),
        ("ipv6", b"0\n", False),
        ("ipv6", b"1\n", True),
        ("ipv6", b"\n", None),
        ("tlsremote", b"always\n", "always"),
        ("tlsremote", b"", None),
        ("outgoingip", b"192.0.2.1\n", "192.0.2.1"),
        ("outgoingip", b"2001:db8::1", "2001:db8::1"),
        ("outgoingip", b"0.0.0.0\n", ""),
        ("outgoingip", b"", ""),
        ("smtpgreeting", b"host  No UBE \n", b"host  No UBE"),
        ("doublebounceto", b"\n", b""),
        ("defaultdelivery", b"|dot-forward .forward\n./Mailbox\n\n", b"|dot-forward .forward\n./Mailbox"),
        ("locals", b"# ours\nHost.Example \nb\n", {b"host.example", b"b"}),
        ("rcpthosts", b"", frozenset()),
        ("badmailfrom", b"Spam@Bad.example\n@Worse.example", {b"spam@bad.example", b"@worse.example"}),
        ("qmqpservers", b"192.0.2.2\n192.0.2.1\n", (b"192.0.2.2", b"192.0.2.1")),
        ("virtualdomains", b"V.example:Joe\nnot.example:\n:all\nu@x.example:a:b", {
            b"v.example": b"Joe", b"not.example": b"", b"": b"all", b"u@x.example": b"a:b",
        }),
        ("smtproutes", b"nix.co.jj:[192.10.10.2]\n:relay.example:26\n.Dom.example:\n", {
            b"nix.co.jj": b"[192.10.10.2]", b"": b"relay.example:26", b".dom.example": b"",
        }),
        ("smtproutes", b"[IPv6:2001:DB8::1]:[2001:db8::2]:2525", {b"[ipv6:2001:db8::1]": b"[2001:db8::2]:2525"}),
        ("proxyclients", b"192.0.2.0/24\n2001:db8::1\n", ("192.0.2.0/24", "2001:db8::1/128")),
        ("resolvers", b"192.0.2.1\n192.0.2.1:53\n[::1]:53\n::1\n", ("192.0.2.1", "192.0.2.1:53", "[::1]:53", "::1")),
    ],
)  # fmt: skip
def test_what_is_allowed(name: str, raw: bytes, value: object) -> None:
    assert parsed(name, raw) == (value, [])


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        (
            "databytes",
            b"10 megabytes",
            'control/databytes:1: "10 megabytes" is not a number; allowed is a whole number',
        ),
        ("databytes", b" 10", '" 10" is not a number'),
        ("databytes", b"-1", '"-1" is not a number'),
        ("databytes", "\N{SUPERSCRIPT TWO}".encode(), "is not a number"),
        ("databytes", b"9" * 5000, "is out of bounds; allowed is a whole number from 0 to 1099511627776 (octets)"),
        ("timeoutsmtpd", b"0", "0 is out of bounds; allowed is a whole number from 1 to"),
        ("ipv6", b"yes", '"yes" is not known here; allowed is 1 (yes) or 0 (no)'),
        ("barenewline", b"Refuse", '"Refuse" is not known here; allowed is refuse or normalise'),
        ("outgoingip", b"host.example", '"host.example" is not an IP address'),
        ("me", b"host.example\r\n", 'control/me:1: "host.example\\r" holds a control character'),
        ("me", b"host\0example", '"host\\0example" holds a control character'),
        ("defaultdelivery", b"./Maildir/\r\n./Mailbox\n", "control/defaultdelivery: holds a control character"),
        ("locals", b"a\nb\r\n", 'control/locals:2: "b\\r" holds a carriage return'),
        ("virtualdomains", b"# x\nv.example joe\n", 'control/virtualdomains:2: "v.example joe" has no colon'),
        ("virtualdomains", b"v.example:joe\r\n", "holds a carriage return"),
        ("smtproutes", b"a.example\n", 'control/smtproutes:1: "a.example" has no colon'),
        ("smtproutes", b"a.example:relay:smtp\n", '"relay:smtp" is no relay; allowed is a host name or [ADDRESS]'),
        ("smtproutes", b":[192.0.2.1\n", '"[192.0.2.1" is no relay'),
        ("smtproutes", b":[relay.example]\n", '"[relay.example]" is no relay'),
        ("proxyclients", b"192.0.2.1/24\n", "control/proxyclients:1: 192.0.2.1/24 has host bits set"),
        ("resolvers", b"dns.example\n", '"dns.example" is no DNS server'),
        ("resolvers", b"192.0.2.1:0\n", '"192.0.2.1:0" is no DNS server'),
    ],
)
def test_anything_else_is_refused_with_file_and_line(name: str, raw: bytes, problem: str) -> None:
    file = ControlFile(control_file(name), raw)
    parse(name, CATALOGUE[name], file)
    assert problem in str(file.problems[0])
    assert file.problems[0].fatal


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("locals", b"a\n b\n", 'control/locals:2: warning: " b" begins with a blank'),
        ("rcpthosts", b"a.example # ours\n", 'control/rcpthosts:1: warning: "a.example # ours" is one entry'),
        ("smtproutes", b"a:b\nA:c\n", 'control/smtproutes:2: warning: "a" was given another value above'),
    ],
)
def test_what_is_doubtful_is_said_and_used(name: str, raw: bytes, problem: str) -> None:
    value, found = parsed(name, raw)
    assert problem in found[0]
    assert value


def test_the_last_of_several_values_counts() -> None:
    assert parsed("virtualdomains", b"a:first\nA:last\n")[0] == {b"a": b"last"}


@pytest.mark.parametrize(
    "value", [b"", b"host", b"host.example:25", b"host:", b"[192.0.2.1]", b"[::1]:65535", b"[IPv6:::1]"]
)
def test_relays(value: bytes) -> None:
    assert is_relay(value)


@pytest.mark.parametrize(
    "value", [b":25", b"a b", b"a:0", b"a:65536", b"a:" + b"9" * 5000, b"a:b", b"[]", b"::1", b"[a]"]
)
def test_no_relays(value: bytes) -> None:
    assert not is_relay(value)


@pytest.mark.parametrize("name", [name for name, setting in CATALOGUE.items() if setting.kind is not Kind.FILE])
@given(raw=st.binary(max_size=60))
def test_any_octets_are_a_value_or_a_problem(name: str, raw: bytes) -> None:
    file = ControlFile(control_file(name), raw)
    value = parse(name, CATALOGUE[name], file)
    lines = raw.count(b"\n") + 1
    assert all(0 <= problem.line <= lines and problem.remedy for problem in file.problems if problem.fatal)
    assert value is not None or file.problems or not raw.strip(b" \t\n") or CATALOGUE[name].kind not in MANY


@given(st.integers(0, 2**40))
def test_numbers_are_read_back(number: int) -> None:
    assert parsed("databytes", b"%d\n" % number) == (number, [])

"""The text form of tcp rules: what it says, what is wrong in it, and the octets that tcprules makes of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peers.processes import program

from ekiden.policy.ruletext import RuleError, compile_rules, parse_rules
from ekiden.tables.cdb import replace_cdb

RULES = b"""# the relay's
192.168.1.1:allow,RELAYCLIENT=""
127.:allow,RELAYCLIENT=""\t
10.1-3.:allow,A="x",B=/y:z/
1.2.3.4-6:deny
joe@1.2.3.4:allow
=.example.org:allow,RELAYCLIENT="@fix.me"
=:deny,NO="1"
no rule
127.:deny

:allow
"""


def compiled(text: bytes) -> list[tuple[bytes, bytes]]:
    return compile_rules(parse_rules(text.split(b"\n")))


def test_records_in_the_order_of_the_text() -> None:
    assert compiled(RULES) == [
        (b"192.168.1.1", b"+RELAYCLIENT=\0"),
        (b"127.", b"+RELAYCLIENT=\0"),
        (b"10.1.", b"+A=x\0+B=y:z\0"),
        (b"10.2.", b"+A=x\0+B=y:z\0"),
        (b"10.3.", b"+A=x\0+B=y:z\0"),
        (b"1.2.3.4", b"D\0"),
        (b"1.2.3.5", b"D\0"),
        (b"1.2.3.6", b"D\0"),
        (b"joe@1.2.3.4", b""),
        (b"=.example.org", b"+RELAYCLIENT=@fix.me\0"),
        (b"=", b"D\0+NO=1\0"),
        (b"127.", b"D\0"),
        (b"", b""),
    ]


def test_ipv6_rules() -> None:
    text = b'2001:DB8::1:deny\n2001:db8::/32:allow,A=":deny"\n::1:allow\njoe@::1:deny'
    assert compiled(text) == [
        (b"2001:db8::1", b"D\0"),
        (b"2001:db8::/32", b"+A=:deny\0"),
        (b"::1", b""),
        (b"joe@::1", b"D\0"),
    ]


def test_of_overlapping_networks_the_narrower_wins() -> None:
    wide, narrow = b"10.0.0.0/14:deny", b"10.2.0.0/15:allow"
    expected = {b"10.0.": b"D\0", b"10.1.": b"D\0", b"10.2.": b"", b"10.3.": b""}
    assert dict(compiled(wide + b"\n" + narrow)) == expected
    assert dict(compiled(narrow + b"\n" + wide)) == expected
    assert dict(compiled(wide + b"\n10.1.:allow")) == {**expected, b"10.1.": b"", b"10.2.": b"D\0", b"10.3.": b"D\0"}
    assert compiled(b"10.1.:allow\n10.1.0.0/16:deny") == [(b"10.1.", b"")]
    assert compiled(b"10.0.0.0/8:allow\n10.0.0.0/8:deny") == [(b"10.", b"")]


@pytest.mark.parametrize(
    "line",
    [
        b":allowx",
        b':denyx,A="b"',
        b":allow,A",
        b':allow,A="b',
        b':allow,A="b"x',
        b":allow,A=",
        b":ALLOW",
        b":allow:deny",
        b':allow A="b"',
        b":allow\r",
        b"1-x.:deny",
        b"2001:db8::g:allow",
        b"joe@[::1]:allow",
        b"1.2.3.4/33:allow",
    ],
)
def test_wrong_lines_are_named(line: bytes) -> None:
    with pytest.raises(RuleError) as caught:
        compiled(b"# remark\n127.:allow\n" + line + b" \n:deny")
    assert (caught.value.number, caught.value.line) == (3, line)
    assert caught.value.reason


def test_lines_that_say_nothing_are_known() -> None:
    rules = list(parse_rules([b"1.2.3.4", b"10.3-2.:deny", b" #x:deny"]))
    assert [(rule.number, rule.keys != []) for rule in rules] == [(1, False), (2, False), (3, True)]


@given(st.lists(st.text('1.-:=@,/"\n\t #adlowenyAB\r', max_size=30)))
def test_any_text_is_rules_or_a_named_line(lines: list[str]) -> None:
    try:
        compiled("\n".join(lines).encode())
    except RuleError as error:
        assert error.number >= 1


@pytest.mark.parametrize("text", [b"", RULES, b"1-2.3-4.:deny\n-3:allow\n:allow\n:deny\n 1:allow\na=1-2:deny\n"])
def test_the_octets_are_those_of_tcprules(tmp_path: Path, text: bytes) -> None:
    theirs, ours = tmp_path / "theirs.cdb", tmp_path / "ours.cdb"
    subprocess.run([program("tcprules"), theirs, tmp_path / "tmp"], input=text, check=True)
    replace_cdb(ours, tmp_path / "tmp", compiled(text))
    assert ours.read_bytes() == theirs.read_bytes()

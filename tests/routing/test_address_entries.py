"""Lines of alias files: what they name, and that nothing makes the reader fail otherwise than it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.mailbox import Malformed
from ekiden.routing.address_entries import ADDRESS, FILE, INCLUDE, PROGRAM, Entry, entries
from ekiden.routing.aliases import BadAlias, Domains, alias_records, list_commands
from ekiden.routing.forwarding import Expansion, as_instruction, commands, table_records

DOMAINS = Domains(b"host.example", b"domain.example", b"plus.example")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"", []),
        (b"a", [Entry(ADDRESS, b"a")]),
        (b"a, b@c", [Entry(ADDRESS, b"b@c", True), Entry(ADDRESS, b"a")]),
        (b"a b", [Entry(ADDRESS, b"b"), Entry(ADDRESS, b"a")]),
        (b"A B <c@d> (e)", [Entry(ADDRESS, b"c@d", True)]),
        (b'"a@b"', [Entry(ADDRESS, b"a@b")]),
        (b"\\a", [Entry(ADDRESS, b"a")]),
        (b"<>", [Entry(ADDRESS, b"")]),
        (b'"|a b"', [Entry(PROGRAM, b"a b")]),
        (b'|"a b"', [Entry(PROGRAM, b"a b")]),
        (b"|a", [Entry(PROGRAM, b"a")]),
        (b'c: |"a, b", d', [Entry(ADDRESS, b"d"), Entry(PROGRAM, b"a, b"), Entry(ADDRESS, b"c")]),
        (b'"|a"@b', [Entry(ADDRESS, b"|a@b", True)]),
        (b"/a/b.c", [Entry(FILE, b"/a/b.c")]),
        (b":include:/a", [Entry(INCLUDE, b"/a")]),
        (b": Include : /a, b", [Entry(ADDRESS, b"b"), Entry(INCLUDE, b"/a")]),
    ],
)
def test_entries(line: bytes, found: list[Entry]) -> None:
    assert entries(line) == found


@pytest.mark.parametrize("line", [b"a@b>", b'"a', b"(a", b"|a b", b"|a b@c"])
def test_what_cannot_be_read(line: bytes) -> None:
    with pytest.raises(Malformed):
        entries(line)


@pytest.mark.parametrize(
    ("address", "complete"),
    [
        (b"a@", b"a@host.example"),
        (b"a@b", b"a@b.domain.example"),
        (b"a@b+", b"a@b.plus.example"),
        (b"a@b.c", b"a@b.c"),
        (b"a.b@c", b"a.b@c.domain.example"),
        (b"a@[1.2.3.4]", b"a@[1.2.3.4]"),
    ],
)
def test_completing(address: bytes, complete: bytes) -> None:
    assert DOMAINS.complete(address) == complete


ALPHABET = st.lists(st.sampled_from([*b'ab@.,:;<>()[]"\\|/ \t\n#+?&!\0\xff', *b"include"])).map(bytes)


@given(ALPHABET)
def test_any_alias_file_is_records_or_refused(text: bytes) -> None:
    try:
        records = list(alias_records(text, DOMAINS))
    except BadAlias as error:
        assert 1 <= error.line <= text.count(b"\n") + 1
        return
    for key, value in records:
        assert key[:1] in (b":", b"?")
        assert key[:1] == b"?" or commands(value) is not None


@given(ALPHABET)
def test_any_list_is_commands_or_refused(text: bytes) -> None:
    try:
        found = commands(b"".join(list_commands(text, DOMAINS)))
    except BadAlias:
        return
    assert all(each[:1] in (b"&", b".", b"/") for each in found)


@given(ALPHABET)
def test_what_is_printed_is_read_as_the_same(text: bytes) -> None:
    try:
        records = list(table_records(text))
    except BadAlias:
        return
    assert list(table_records(b"".join(as_instruction(key, value) for key, value in records))) == records


@given(st.dictionaries(st.sampled_from([b":a@h", b":b@h", b":@h", b"?b@h", b":c@"]), ALPHABET))
def test_any_database_ends(records: dict[bytes, bytes]) -> None:
    expansion = Expansion(records.get, lambda name: records.get(b":a@h", b""))
    try:
        found = expansion.expand(b"a@h", b"sender@h")
    except ValueError:
        return
    assert found == (b":a@h" in records or b":@h" in records)

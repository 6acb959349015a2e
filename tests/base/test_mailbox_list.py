"""Address lists: what counts as an address, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.mailbox import AT, ATOM, Malformed, Token, unquote
from ekiden.base.mailbox_list import rewrite_field


def rewritten(field: bytes) -> tuple[bytes, list[bytes]]:
    """The field with ``@x`` put to every address, and the addresses in the field's order."""
    seen: list[bytes] = []

    def note(address: list[Token]) -> list[Token]:
        seen.append(unquote(address))
        return [*address, AT, (ATOM, b"x")]

    return rewrite_field(field, note), seen[::-1]


@pytest.mark.parametrize(
    ("value", "written", "addresses"),
    [
        (b"a", b"a@x", [b"a"]),
        (b"a, b", b"a@x, b@x", [b"a", b"b"]),
        (b"djb fred", b"djb@x, fred@x", [b"djb", b"fred"]),
        (b"a (b c), d", b"a@x (b c), d@x", [b"a", b"d"]),
        (b"A Person <e>", b"A Person <e@x>", [b"e"]),
        (b'"A, B" <e>, f', b'"A, B" <e@x>, f@x', [b"e", b"f"]),
        (b"J. R. Hacker <e> f", b"J.R.Hacker <e@x>, f@x", [b"e", b"f"]),
        (b"grp: a, b;, c", b"grp: a@x, b@x;, c@x", [b"a", b"b", b"c"]),
        (b"a, recipient list not shown: ;", b"a@x, recipient list not shown: ;", [b"a"]),
        (b"a.b c.d", b"a.b@x, c.d@x", [b"a.b", b"c.d"]),
        (b"<>", b"<@x>", [b""]),
        (b"", b"", []),
        (b"a,, b,", b"a@x, , b@x,", [b"a", b"b"]),
        (b'"A\n B" <e>,\n\tf', b'"A B" <e@x>, f@x', [b"e", b"f"]),
    ],
)
def test_addresses_are_found(value: bytes, written: bytes, addresses: list[bytes]) -> None:
    field, found = rewritten(b"To: " + value)
    assert found == addresses
    assert field == (b"To: " + written).rstrip() + b"\n"


@pytest.mark.parametrize("value", [b"a>", b"g: a; b;;", b"a: b", b"a(", b")"])
def test_what_is_no_list(value: bytes) -> None:
    with pytest.raises(Malformed):
        rewritten(b"To: " + value)


@given(st.text('ab.@<>,:;()" \n', max_size=40))
def test_any_text(text: str) -> None:
    try:
        field, _found = rewritten(b"To: " + text.replace("\n", "\n ").encode())
    except Malformed:
        return
    assert field.startswith(b"To:") and field.endswith(b"\n")
    assert all(line.startswith(b" ") for line in field.split(b"\n")[1:-1])

"""The parser of .qmail files: dot-qmail(5), line by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.delivery.dotqmail import FORWARD, MAILDIR, MBOX, PROGRAM, REFUSE, parse
from ekiden.delivery.instruction import Instruction

BLANK = Instruction(REFUSE, b"The first line of the .qmail file is blank. (#4.2.1)")
NO_FILE = Instruction(REFUSE, b"The .qmail file may only forward, but it delivers to a file. (#4.7.0)")
NO_PROGRAM = Instruction(REFUSE, b"The .qmail file may only forward, but it delivers to a program. (#4.7.0)")

CASES = [
    (b"", [BLANK]),
    (b"\n", [BLANK]),
    (b" \t\n./Mailbox\n", [BLANK, Instruction(MBOX, b"./Mailbox")]),
    (b"# a comment\n", []),
    (b"#\n\n  \n\t\n", []),
    (b"./Mailbox", [Instruction(MBOX, b"./Mailbox")]),
    (b"./Maildir/\n", [Instruction(MAILDIR, b"./Maildir/")]),
    (b"./Maildir/ \t \n", [Instruction(MAILDIR, b"./Maildir/")]),
    (b"/home/djb/Mailbox.sos\n", [Instruction(MBOX, b"/home/djb/Mailbox.sos")]),
    (b"/var/mail/x/\n", [Instruction(MAILDIR, b"/var/mail/x/")]),
    (b".qmail\n", [Instruction(MBOX, b".qmail")]),
    (b"|preline vacation djb \n", [Instruction(PROGRAM, b"preline vacation djb")]),
    (b"| cat\n", [Instruction(PROGRAM, b" cat")]),
    (b"|\n", [Instruction(PROGRAM, b"")]),
    (b"&me@new.job.com\n", [Instruction(FORWARD, b"me@new.job.com")]),
    (b"me@new.job.com\n", [Instruction(FORWARD, b"me@new.job.com")]),
    (b"& me@new.job.com\n", [Instruction(FORWARD, b" me@new.job.com")]),
    (b" me@new\n", [Instruction(FORWARD, b" me@new")]),
    (b"&\n", [Instruction(FORWARD, b"")]),
    (b"&&x@y\n", [Instruction(FORWARD, b"&x@y")]),
    (b"+anything\n./Mailbox\n", [Instruction(MBOX, b"./Mailbox")]),
    (b"+list\na@b\n./Mailbox\n|x\n", [Instruction(FORWARD, b"a@b"), NO_FILE, NO_PROGRAM]),
    (b"./Mailbox\n+list\n./Maildir/\n", [Instruction(MBOX, b"./Mailbox"), NO_FILE]),
    (b"a@b\n./Maildir/\n", [Instruction(FORWARD, b"a@b"), Instruction(MAILDIR, b"./Maildir/")]),
    (b"a@b\0c\n", [Instruction(FORWARD, b"a@b")]),
    (b"\0a@b\n", [BLANK]),
    (b"#\n\0a@b\n", []),
    (b"./Maildir/\r\n", [Instruction(MBOX, b"./Maildir/\r")]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_lines(text: bytes, expected: list[Instruction]) -> None:
    assert parse(text, forward_only=False) == expected


def test_execute_bit_allows_forwards_only() -> None:
    found = parse(b"a@b\n./Mailbox\n#x\n./Maildir/\n|x\n&c@d\n", forward_only=True)
    assert found == [Instruction(FORWARD, b"a@b"), NO_FILE, NO_FILE, NO_PROGRAM, Instruction(FORWARD, b"c@d")]


lines = st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"./a", b"|b", b"&c", b"#d", b"+list", b" "])))


@given(lines.map(b"\n".join), st.booleans())
def test_anything_can_be_parsed(text: bytes, forward_only: bool) -> None:
    for instruction in parse(text, forward_only):
        assert b"\n" not in instruction.text
        assert b"\0" not in instruction.text
        assert not forward_only or instruction.kind in (FORWARD, REFUSE)


@given(st.binary(), st.binary())
def test_every_line_speaks_for_itself(first: bytes, second: bytes) -> None:
    first, second = b"#" + first.replace(b"\n", b""), second.replace(b"\n", b"")
    assert parse(first + b"\n" + second, False) == parse(b"#\n" + second + b"\n", False)

"""Whether a client is blocked, and the conversation that says so, without a network."""

from __future__ import annotations

import pytest

from ekiden.policy.blocking import LOOKUP_FAILED, Decision, Refusal, judge, reversed_address

LISTS = {b"4.3.2.1.bl": b"listed", b"4.3.2.1.bl2": b"again"}


def texts(name: bytes) -> bytes:
    if name.endswith(b"broken"):
        raise OSError
    return LISTS.get(name, b"")


def is_listed(name: bytes) -> bool:
    if name.endswith(b"broken"):
        raise OSError
    return name == b"4.3.2.1.good"


@pytest.mark.parametrize(
    ("options", "decision"),
    [
        ([], Decision()),
        ([("r", "bl"), ("r", "bl2")], Decision(b"listed")),
        ([("b", ""), ("r", "bl2")], Decision(b"again", True)),
        ([("a", "good"), ("r", "bl")], Decision()),
        ([("b", ""), ("r", "broken"), ("r", "bl")], Decision(b"listed", False)),
        ([("c", ""), ("b", ""), ("r", "broken")], Decision(LOOKUP_FAILED)),
        ([("a", "broken"), ("r", "bl")], Decision()),
        ([("c", ""), ("b", ""), ("a", "broken"), ("r", "bl")], Decision(b"listed", False)),
    ],
)
def test_lists(options: list[tuple[str, str]], decision: Decision) -> None:
    assert judge(None, b"1.2.3.4", options, texts, is_listed) == decision


def test_the_variable_goes_before_the_lists() -> None:
    for variable, decision in ((b"", Decision()), (b"x", Decision(b"x")), (b"-x", Decision(b"x", True))):
        assert judge(variable, b"1.2.3.4", [("r", "bl")], texts, is_listed) == decision


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"1.2.3.4", b"4.3.2.1."),
        (b"", b""),
        (b"::1", b"1." + b"0." * 31),
        (b"not:an:address", b""),
    ],
)
def test_reversed_address(address: bytes, name: bytes) -> None:
    assert reversed_address(address) == name


def test_conversation_in_pieces_of_every_size() -> None:
    talk = b"EHLO a\r\nrcpt x\nquit\r\nnoop\r\n"
    expected = b"250 rblsmtpd.local\r\n451 no\r\n221 rblsmtpd.local\r\n"
    for size in range(1, len(talk) + 1):
        refusal = Refusal(b"451 no")
        pieces = [talk[start : start + size] for start in range(0, len(talk), size)]
        assert b"".join(map(refusal.receive, pieces)) == expected
        assert refusal.is_over

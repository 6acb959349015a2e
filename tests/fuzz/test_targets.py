"""Every target with the inputs that are kept, and with what hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tests.fuzz import corpus
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

EXAMPLES = 120

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
def test_kept_inputs(target: Target) -> None:
    inputs = corpus.read(target.name)
    assert inputs, "nothing is kept for this target"
    for data in inputs:
        target.run(data)


@every_target
def test_any_octets(target: Target, pytestconfig: pytest.Config) -> None:
    """The same inputs each time; ``--seed`` gives others."""
    chance = pytestconfig.getoption("--seed")
    pieces = st.lists(st.sampled_from(target.pieces) | st.binary(max_size=6), max_size=16).map(b"".join)

    @settings(max_examples=EXAMPLES, derandomize=chance is None, database=None)
    @given(pieces)
    def judged(data: bytes) -> None:
        target.run(data)

    (judged if chance is None else seed(chance)(judged))()


@given(st.lists(st.binary(max_size=30)))
def test_corpus_gives_back_what_was_kept(inputs: list[bytes]) -> None:
    lines = [corpus.to_line(data) for data in inputs]
    assert [corpus.from_line(line) for line in lines] == inputs
    assert all(line.isascii() and "\n" not in line and not line.startswith("# ") for line in lines)

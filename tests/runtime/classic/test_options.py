"""Options as sgetopt(3) reads them."""

from __future__ import annotations

import pytest

from ekiden.runtime.classic.options import BadOption, options


@pytest.mark.parametrize(
    ("argv", "found", "rest"),
    [
        ([], [], []),
        (["a", "-n"], [], ["a", "-n"]),
        (["-n", "a"], [("n", "")], ["a"]),
        (["-nf", "x", "a"], [("n", ""), ("f", "x")], ["a"]),
        (["-nfx", "a"], [("n", ""), ("f", "x")], ["a"]),
        (["-f", ""], [("f", "")], []),
        (["-f", "--", "-n"], [("f", "--"), ("n", "")], []),
        (["--", "-n"], [], ["-n"]),
        (["--long", "-n"], [], ["-n"]),
        (["-", "-n"], [], ["-", "-n"]),
        (["-q", "30m"], [("q", "")], ["30m"]),
        (["-q30m", "a"], [("q", "30m")], ["a"]),
    ],
)
def test_read(argv: list[str], found: list[tuple[str, str]], rest: list[str]) -> None:
    assert options(argv, "nf:q;") == (found, rest)


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["-x"], "illegal option -- x"), (["-nf"], "option requires an argument -- f"), (["-:"], "illegal option -- :")],
)
def test_refused(argv: list[str], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        options(argv, "nf:q;")

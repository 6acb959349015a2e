"""The inputs that are kept: one a line, as a Python bytes literal without its quotes.

``corpus/TARGET.found.txt`` has those that have found something, with a remark (``# ``) above each that says what;
``corpus/TARGET.txt`` has those that only go different ways through the parser.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent / "corpus"


def read(name: str) -> list[bytes]:
    """A target's inputs; none if there is no file."""
    paths = (DIRECTORY / f"{name}.found.txt", DIRECTORY / f"{name}.txt")
    lines = [line for path in paths if path.exists() for line in path.read_text("ascii").splitlines()]
    return [from_line(line) for line in lines if not line.startswith("# ")]


def keep(name: str, inputs: Iterable[bytes]) -> int:
    """Replace the inputs that have found nothing; how many there are."""
    new = sorted(set(inputs), key=lambda one: (len(one), one))
    (DIRECTORY / f"{name}.txt").write_text("".join(f"{to_line(one)}\n" for one in new), "ascii")
    return len(new)


def to_line(data: bytes) -> str:
    """An input as its line, which cannot be taken for a remark."""
    text = "".join(chr(octet) if 32 <= octet < 127 and octet not in b'"\\\\' else f"\\x{octet:02x}" for octet in data)
    return "\\x23" + text[1:] if text.startswith("#") else text


def from_line(line: str) -> bytes:
    """The inverse."""
    data: bytes = ast.literal_eval(f'b"{line}"')
    return data

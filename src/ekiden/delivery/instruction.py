"""One thing that a user's file says is to be done with a message."""

from __future__ import annotations


class Instruction:
    """``kind`` is a constant of the module that reads the file (dotqmail.py, forward_file.py), which says what
    ``text`` is for it."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: bytes) -> None:
        self.kind = kind
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instruction) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))

    def __repr__(self) -> str:
        return f"Instruction({self.kind!r}, {self.text!r})"

"""A .qmail file's text as instructions (dot-qmail(5)).

Anything may be given. What must not be carried out becomes an instruction of its own, ``REFUSE``, in its place,
because instructions before it, and a program's exit code 99, have their effect first.
"""

from __future__ import annotations

MAILDIR = "maildir"
MBOX = "mbox"
PROGRAM = "program"
FORWARD = "forward"
REFUSE = "refuse"

_NAMES = {MAILDIR: "a file", MBOX: "a file", PROGRAM: "a program"}


class Instruction:
    """``kind`` is one of the constants above; ``text`` is file name, command, address, or the reason to refuse."""

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


def parse(text: bytes, forward_only: bool) -> list[Instruction]:
    """Instructions in order, comments and empty lines left out.

    ``forward_only``: the file's execute bit is set, so that it may only forward. A line ``+list`` has the same effect
    on the lines after it; other lines beginning with a plus sign mean nothing.
    """
    instructions = []
    lines = text.split(b"\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    for number, raw in enumerate(lines):
        line = raw.partition(b"\0")[0].rstrip(b" \t")
        if line == b"+list":
            forward_only = True
        elif line or not number:
            instruction = _instruction(line, forward_only)
            if instruction is not None:
                instructions.append(instruction)
    return instructions


def _instruction(line: bytes, forward_only: bool) -> Instruction | None:
    first = line[:1]
    if not line:
        return Instruction(REFUSE, b"The first line of the .qmail file is blank. (#4.2.1)")
    if first in b"#+":
        return None
    if first in b"./":
        instruction = Instruction(MAILDIR if line.endswith(b"/") else MBOX, line)
    elif first == b"|":
        instruction = Instruction(PROGRAM, line[1:])
    else:
        return Instruction(FORWARD, line[1:] if first == b"&" else line)
    if forward_only:
        name = _NAMES[instruction.kind].encode()
        return Instruction(REFUSE, b"The .qmail file may only forward, but it delivers to %b. (#4.7.0)" % name)
    return instruction

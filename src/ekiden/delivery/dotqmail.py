"""A .qmail file's text as instructions (dot-qmail(5)).

Anything may be given. What must not be carried out becomes an instruction of its own, ``REFUSE``, in its place,
because instructions before it, and a program's exit code 99, have their effect first.
"""

from __future__ import annotations

from ekiden.delivery.instruction import Instruction

MAILDIR = "maildir"
MBOX = "mbox"
PROGRAM = "program"
FORWARD = "forward"
REFUSE = "refuse"
"""Kinds of instructions; their text is a file's name, twice, a command, an address, the reason to refuse."""

_NAMES = {MAILDIR: "a file", MBOX: "a file", PROGRAM: "a program"}


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

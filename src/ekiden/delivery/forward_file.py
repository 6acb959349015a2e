"""A .forward file as instructions (dot-forward(1), and sendmail's forms that its users know).

Everything is read and understood before anything is done with it. :include: files are read as the user.
"""

from __future__ import annotations

import os

from ekiden.base.mailbox import Malformed
from ekiden.delivery.instruction import Instruction
from ekiden.routing.address_entries import FILE, INCLUDE, PROGRAM, Entry, entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ekiden.routing.aliases import Domains

RUN = "run"
STORE = "store"
FORWARD = "forward"
DIRECT = "direct"
"""Kinds of instructions; their text is a command, a mailbox's name, an address; empty for the user's own .qmail."""

DEPTH = 10
"""How deep :include: files may name further ones."""


class Unusable(Exception):
    """A line that cannot be meant, or an :include: file that cannot be read; the text says which and why."""


def read(name: bytes, user: bytes, host: bytes, domains: Domains) -> list[Instruction]:
    """The instructions in the file ``name``, of the user ``user`` at ``host``.

    Raises FileNotFoundError if there is no such file, OSError if it cannot be read, else Unusable.
    """
    return _Reader(user, host, domains).read(name, 0)


class _Reader:
    def __init__(self, user: bytes, host: bytes, domains: Domains) -> None:
        self._user = user.lower()
        self._address = self._user + b"@" + host.lower()
        self._domains = domains

    def read(self, name: bytes, depth: int) -> list[Instruction]:
        found: list[Instruction] = []
        for number, line in enumerate(_load(name).split(b"\n"), 1):
            if line.startswith(b"#"):
                continue
            try:
                if b"\0" in line:
                    raise Malformed("the line holds NUL")
                for entry in reversed(entries(line)):
                    found += self._instructions(entry, depth)
            except Malformed as error:
                raise Unusable(f"unable to parse {os.fsdecode(name)}:{number}: {error}") from None
        return found

    def _instructions(self, entry: Entry, depth: int) -> list[Instruction]:
        if entry.kind == INCLUDE:
            return self._include(entry.text, depth)
        if entry.kind == PROGRAM:
            return [Instruction(RUN, entry.text)]
        if entry.kind == FILE:
            return [Instruction(STORE, entry.text)]
        if not entry.text:
            return []
        if entry.text.lower() == (self._address if entry.has_host else self._user):
            return [Instruction(DIRECT, b"")]
        complete = self._domains.complete(entry.text if entry.has_host else entry.text + b"@")
        return [Instruction(FORWARD, complete)]

    def _include(self, name: bytes, depth: int) -> list[Instruction]:
        if depth >= DEPTH:
            raise Unusable(f":include: files are more than {DEPTH} deep; the last one is {os.fsdecode(name)}")
        try:
            return self.read(name, depth + 1)
        except OSError as error:
            raise Unusable(f"unable to read {os.fsdecode(name)}: {error.strerror}") from None


def _load(name: bytes) -> bytes:
    # Without blocking, for there may be a FIFO by that name.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 65536), b""))
    finally:
        os.close(descriptor)

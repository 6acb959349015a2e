"""A queue of all sorts of messages, what is in it, and ways to damage its files."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash.desk import LARGE, Desk

from ekiden.base.envelope import Recipient
from ekiden.queue.damage import FILE, roots
from ekiden.queue.intake import Arrival
from ekiden.queue.pages import PageFile
from ekiden.queue.sqlite import SQLiteStore

PAGE = 4096
LOG = f"{FILE}-wal"


@dataclass(frozen=True)
class Known:
    """A message as it is in the queue: whom it still waits for, and its content."""

    sender: bytes
    recipients: frozenset[bytes]
    content: bytes


def fill(directory: Path, crash: bool = False) -> None:
    """Some hundred messages: small, in overflow pages, in segments and in files; new, deferred, with several
    destinations; others were delivered before and have left free pages."""
    chance = random.Random(5)
    desk = Desk(directory, lambda _line: None, pages=100_000 if crash else 100)
    for number in range(1, 161):
        size = LARGE if number % 40 == 30 else chance.choice((300, 700, 1500, 2000, 9000, 30_000, 40_000))
        kind = chance.randrange(4)
        whom = [b"a%d@example.com" % number]
        if kind == 1:
            whom = [b"later@example.com"]
        elif kind == 2:
            whom = [b"later@one.example", b"later@two.example", b"b%d@two.example" % number]
        if size == 2000:
            desk.inject(number, *map(Recipient, whom))
        else:
            inject(desk, number, size, whom)
        if number % 20 == 0 and number <= 120:
            desk.round()
        elif number % 5 == 0:
            desk.commit()
    desk.commit()
    if not crash:
        desk.store.close()


def inject(desk: Desk, number: int, size: int, whom: list[bytes]) -> None:
    """A message of that size, in a file only if it is large."""
    from tests.crash.desk import SMTP
    from tests.peers.accounting import Ledger

    from ekiden.base.envelope import Envelope

    if size == LARGE:
        desk.inject(number, *map(Recipient, whom), size=LARGE)
        return
    _, content = Ledger().compose(number, size)
    envelope = Envelope(b"s%d@example.org" % number, list(map(Recipient, whom)))
    desk.engine.accept(Arrival(envelope, SMTP, content, "", len(content)), desk.now, lambda _answer: None)


def contents(directory: Path) -> dict[int, Known]:
    """What the queue holds."""
    store = SQLiteStore(directory)
    found = {}
    for row in store.messages(0, 100_000):
        if row.spool:
            with open(store.open_spool(row.spool), "rb") as file:
                content = file.read()
        else:
            content = store.content(row.id) or b""
        whom = frozenset(one.address for part in store.parts(row.id) for one in part.recipients)
        found[row.id] = Known(row.sender, whom, content)
    store.close()
    return found


def held(directory: Path) -> set[int]:
    store = SQLiteStore(directory)
    found = {row.id for row in store.messages(0, 100_000) if row.held}
    store.close()
    return found


def pages_of_messages(directory: Path) -> dict[int, set[int]]:
    """On which pages each message's rows are."""
    file = PageFile(directory / FILE)
    found: dict[int, set[int]] = {}
    for name, root in roots(file):
        waiting = [root] if name in ("message", "part") else []
        while waiting:
            number = waiting.pop()
            node = file.node(number)
            assert node is not None
            waiting += node.children
            for cell in node.cells:
                assert cell.values is not None
                message = cell.rowid if name == "message" else cell.values[0]
                assert isinstance(message, int)
                found.setdefault(message, set()).update((number, *cell.overflow))
    file.close()
    return found


Damage = Callable[[Path, random.Random], set[int]]
"""Damages the store's file; the pages that are not what they were."""


def flip_bits(directory: Path, chance: random.Random) -> set[int]:
    path = directory / FILE
    data = bytearray(path.read_bytes())
    places = [chance.randrange(len(data)) for _ in range(chance.randrange(1, 30))]
    for place in places:
        data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return {place // PAGE + 1 for place in places}


def garbage(directory: Path, chance: random.Random) -> set[int]:
    return _overwrite(directory, chance, chance.randbytes(PAGE))


def zeros(directory: Path, chance: random.Random) -> set[int]:
    return _overwrite(directory, chance, bytes(PAGE))


def _overwrite(directory: Path, chance: random.Random, page: bytes) -> set[int]:
    path = directory / FILE
    numbers = {chance.randrange(1, os.stat(path).st_size // PAGE + 1) for _ in range(chance.randrange(1, 10))}
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            file.write(page)
    return numbers


def swap(directory: Path, chance: random.Random) -> set[int]:
    """Two pages, each where the other was."""
    path = directory / FILE
    data = bytearray(path.read_bytes())
    one, two = sorted(chance.sample(range(len(data) // PAGE), 2))
    one, two = one * PAGE, two * PAGE
    data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]
    path.write_bytes(data)
    return {one // PAGE + 1, two // PAGE + 1}


def truncate(directory: Path, chance: random.Random) -> set[int]:
    path = directory / FILE
    size = os.stat(path).st_size
    left = chance.randrange(1, size)
    os.truncate(path, left)
    return set(range(left // PAGE + 1, size // PAGE + 1))


def first_page(directory: Path, chance: random.Random) -> set[int]:
    with (directory / FILE).open("r+b") as file:
        file.write(chance.randbytes(chance.choice((16, 100, 4096))))
    return {1}


KINDS: dict[str, Damage] = {
    "bits": flip_bits,
    "garbage": garbage,
    "zeros": zeros,
    "swapped": swap,
    "truncated": truncate,
    "first page": first_page,
}


FRAME = 24 + PAGE


def _frames(directory: Path, chance: random.Random) -> tuple[bytearray, list[int]]:
    """The log, and frames of it to be damaged: not of the last transactions, which a power failure may have torn."""
    data = bytearray((directory / LOG).read_bytes())
    count = (len(data) - 32) // FRAME
    return data, [chance.randrange(count * 4 // 5) for _ in range(chance.randrange(1, 6))]


def flip_in_log(directory: Path, chance: random.Random) -> set[int]:
    data, frames = _frames(directory, chance)
    pages = {_page(data, frame) for frame in frames}
    for frame in frames:
        data[32 + frame * FRAME + chance.randrange(FRAME)] ^= 1 << chance.randrange(8)
    (directory / LOG).write_bytes(data)
    return pages


def garbage_in_log(directory: Path, chance: random.Random) -> set[int]:
    data, frames = _frames(directory, chance)
    pages = {_page(data, frame) for frame in frames}
    for frame in frames:
        data[32 + frame * FRAME : 32 + (frame + 1) * FRAME] = chance.randbytes(FRAME)
    (directory / LOG).write_bytes(data)
    return pages


def beginning_of_log(directory: Path, chance: random.Random) -> set[int]:
    data = bytearray((directory / LOG).read_bytes())
    data[:32] = chance.randbytes(32)
    (directory / LOG).write_bytes(data)
    return {_page(data, 0)}


def _page(data: bytearray, frame: int) -> int:
    return int.from_bytes(data[32 + frame * FRAME : 36 + frame * FRAME], "big")


LOG_KINDS: dict[str, Damage] = {"bits": flip_in_log, "garbage": garbage_in_log, "beginning": beginning_of_log}

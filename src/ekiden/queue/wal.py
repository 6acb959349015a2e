"""SQLite's write-ahead log, read without SQLite: which page's newest content is where, and what is damaged.

SQLite takes the log's frames up to the first whose checksum is wrong, and forgets the rest without a word, because
a power failure may leave a transaction half written at the end. Here it is told apart: a transaction is written only
when the one before it was synced, so that whatever stands in front of another transaction was whole once.
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass, field

_HEADER = 32
_FRAME = 24
_MAGIC = 0x377F0682
"""The lowest bit says how the checksum takes words: 0 is little-endian, 1 big-endian."""
_MASK = 0xFFFFFFFF
_OLDEST = 1 << 16
"""Beginnings of a log that leave a frame of it in place: more is taken for damage."""

Sum = tuple[int, int]


@dataclass
class Log:
    """``frames``: where in ``data`` each page's newest committed content begins. ``pages``: how many pages the file
    has with that, 0 if nothing was committed. ``damage``: what is wrong, in words, "" if nothing is. ``doubtful``:
    pages whose newest content is damaged; what there is of them is older."""

    data: bytes = b""
    page_size: int = 0
    frames: dict[int, int] = field(default_factory=dict)
    pages: int = 0
    damage: str = ""
    doubtful: set[int] = field(default_factory=set)

    def page(self, number: int) -> bytes | None:
        """A page's newest committed content; None if the log has none."""
        at = self.frames.get(number)
        return None if at is None else self.data[at : at + self.page_size]


@dataclass
class Frame:
    """``commit``: pages in the file when a transaction ends here, else 0. ``ours``: it bears the log's salt.

    ``ends_sqlite``: only its checksum is damaged, but SQLite would not read on.
    """

    at: int
    page: int
    commit: int
    valid: bool
    ours: bool
    ends_sqlite: bool = False


def extent(descriptor: int) -> tuple[str, int]:
    """How far the open log reaches: the salt of its frames, and how many there are up to the last whole transaction.

    ("", 0) if it has no beginning. OSError.
    """
    header = os.pread(descriptor, _HEADER, 0)
    if len(header) < _HEADER:
        return "", 0
    salt, size = header[16:24], _FRAME + int.from_bytes(header[8:12], "big")

    def frame(number: int) -> bytes:
        return os.pread(descriptor, 16, _HEADER + number * size)

    # What is left of an earlier generation stands behind all frames of this one.
    low, high = 0, max(0, os.fstat(descriptor).st_size - _HEADER) // size
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if frame(middle)[8:] == salt else (low, middle)
    while low and frame(low - 1)[4:8] == bytes(4):
        low -= 1
    return salt.hex(), low


def read_log(data: bytes) -> Log:
    """The log with these octets."""
    if len(data) < _HEADER:
        return Log()
    magic, _version, page_size, sequence, *rest = struct.unpack(">8I", data[:_HEADER])
    salt, stored = data[16:24], (rest[2], rest[3])
    swap = bool(magic & 1)
    if magic | 1 != _MAGIC | 1 or add(data[:24], (0, 0), swap) != stored:
        restarted = data[:12] + struct.pack(">I", (sequence - 1) & _MASK) + data[16:24]
        if len(data) < _HEADER + _FRAME + 4096 or add(restarted, (0, 0), swap) == stored:
            # Half of a new header, which is written when all that is in the log is in the file too.
            return Log()
        # Without its header SQLite takes nothing of it.
        page_size, salt, swap = 4096, data[_HEADER + 8 : _HEADER + 16], False
        log = _apply(data, page_size, _frames(data, page_size, salt, None, swap))
        log.damage = "its first octets are damaged"
        return log
    return _apply(data, page_size, _frames(data, page_size, salt, stored, swap))


def _frames(data: bytes, page_size: int, salt: bytes, before: Sum | None, swap: bool) -> list[Frame]:
    """Frames of this generation, to the last that bears its salt."""
    size = _FRAME + page_size
    places = range(_HEADER, len(data) - size + 1, size)
    last = max((at for at in places if data[at + 8 : at + 16] == salt), default=0)
    found: list[Frame] = []
    bases = [before] if before is not None else []
    for at in places:
        if at > last or _is_older(data[at + 8 : at + 16], salt):
            break
        page, commit, _salt, _salt2, one, two = struct.unpack_from(">6I", data, at)
        sums = [add(data[at + _FRAME : at + size], add(data[at : at + 8], base, swap), swap) for base in bases[:1]]
        valid = (one, two) in sums
        if not valid and len(bases) > 1:
            # The checksum that stands in the frame before may be what is damaged there.
            sums.append(add(data[at + _FRAME : at + size], add(data[at : at + 8], bases[1], swap), swap))
            if (one, two) == sums[1]:
                valid = found[-1].valid = found[-1].ends_sqlite = True
        ours = data[at + 8 : at + 16] == salt
        if not valid and found and not found[-1].ours:
            # Where all of the frame before is gone this one cannot be checked; it is not the worse for that.
            valid = ours and 0 < page < 1 << 31
        found.append(Frame(at + _FRAME, page, commit, valid and ours, ours))
        bases = [(one, two)] if valid or not sums else [(one, two), sums[0]]
    return found


def _is_older(theirs: bytes, ours: bytes) -> bool:
    """Whether a frame is left of what the log held before it was begun again, when one salt grew and one was drawn.

    Where it stands nothing has been synced since, so that a power failure explains whatever follows it.
    """
    age = int.from_bytes(ours[:4]) - int.from_bytes(theirs[:4]) & _MASK
    return 0 < age <= _OLDEST and theirs[4:] != ours[4:]


def _apply(data: bytes, page_size: int, frames: list[Frame]) -> Log:
    log = Log(data, page_size)
    ends = [number for number, frame in enumerate(frames) if frame.commit and _plausible(frame, frames)]
    synced = [end for end in ends if end < len(frames) - 1]
    stops = [number for number, frame in enumerate(frames) if not frame.valid or frame.ends_sqlite]
    first_wrong = min(stops, default=len(frames))
    if not synced or first_wrong > synced[-1]:
        # Nothing is wrong but for what a power failure may leave.
        last = max((end for end in ends if end < first_wrong), default=-1)
    else:
        last = ends[-1]
        count = sum(number <= last for number in stops)
        log.damage = f"{count} of its {len(frames)} pages are damaged"
    for frame in frames[: last + 1]:
        if frame.valid:
            log.frames[frame.page] = frame.at
            log.doubtful.discard(frame.page)
            log.pages = frame.commit or log.pages
        else:
            log.doubtful.add(frame.page)
    return log


def _plausible(frame: Frame, frames: list[Frame]) -> bool:
    """Whether this can be a transaction's end: damage makes numbers of any size."""
    return frame.valid or frame.commit <= 2 * max((other.commit for other in frames if other.valid), default=0)


def add(data: bytes, before: Sum, big_endian: bool) -> Sum:
    """The log's checksum, carried on over more octets, a multiple of eight."""
    words = array("I", data)
    if big_endian != (_NATIVE == "big"):
        words.byteswap()
    one, two = before
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two


_NATIVE = "big" if array("I", [1]).tobytes()[-1] else "little"

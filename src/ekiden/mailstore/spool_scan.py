"""Where the messages of an mbox file are, and what names them (mbox(5)).

A message begins behind a line ``From `` that is the first one or stands behind a blank line, and ends before the
blank line in front of the next one. Quoted ``>From `` stays as it is. A message's unique id is its X-UIDL field, as
popper wrote it, or else a hash of its header without the fields in which mail readers keep notes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator

import msgspec

from ekiden.mailstore.maildrop import BLOCK
from ekiden.wire.pop3.content import Measure

_MARK = b"\n\nFrom "
_NOTES = re.compile(
    rb"(?im)^(?:status|x-status|x-keywords|x-uid|x-imap|x-imapbase|content-length|lines):.*\n(?:[ \t].*\n)*"
)
_X_UIDL = re.compile(rb"(?im)^x-uidl:[ \t]*([\x21-\x7e]{1,70})[ \t]*\r?$")
_HEADER_OCTETS = 65_536
"""As much of a header is looked at."""


class Entry(msgspec.Struct, frozen=True):
    """One message by its offsets in octets: ``start`` is its From_ line's, ``end`` the next message's ``start``.

    Its content is from ``content`` to ``stop``; ``octets`` of it with CRLF line ends.
    """

    start: int
    content: int
    stop: int
    end: int
    octets: int
    uid: bytes


class NotMbox(ValueError):
    """The file does not begin with a From_ line."""


def scan(descriptor: int, size: int) -> list[Entry]:
    """The messages in the file's first ``size`` octets. Raises NotMbox, OSError."""
    if not size:
        return []
    starts = list(_starts(descriptor, size))
    if not starts:
        raise NotMbox("not an mbox file")
    entries = [_entry(descriptor, start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    return _told_apart(descriptor, entries)


def _starts(descriptor: int, size: int) -> Iterator[int]:
    """Offsets of the From_ lines."""
    # As if a blank line stood before the file.
    held, at = b"\n\n", -2
    if os.pread(descriptor, 5, 0) != b"From ":
        return
    place = 0
    while place < size:
        piece = os.pread(descriptor, min(BLOCK, size - place), place)
        if not piece:
            return
        place += len(piece)
        data = held + piece
        found = data.find(_MARK)
        while found >= 0:
            yield at + found + 2
            found = data.find(_MARK, found + 2)
        held = data[-(len(_MARK) - 1) :]
        at += len(data) - len(held)


def _entry(descriptor: int, start: int, end: int) -> Entry:
    head = os.pread(descriptor, min(_HEADER_OCTETS, end - start), start)
    line = head.find(b"\n") + 1
    content = start + (line or len(head))
    # The blank line behind a message belongs to the mailbox.
    blank = end - content >= 2 and os.pread(descriptor, 2, end - 2) == b"\n\n"
    stop = end - 1 if blank or (end - content == 1 and os.pread(descriptor, 1, end - 1) == b"\n") else end
    measure = Measure()
    for piece in read_range(descriptor, content, stop):
        measure.add(piece)
    return Entry(start, content, stop, end, measure.octets, _uid(head))


def _uid(head: bytes) -> bytes:
    """From the From_ line and the header that ``head`` begins with."""
    ends = [at for mark in (b"\n\n", b"\n\r\n") if (at := head.find(mark)) >= 0]
    header = head[: min(ends) + 1] if ends else head
    said = _X_UIDL.search(header)
    if said is not None:
        return said[1]
    return hashlib.sha256(_NOTES.sub(b"", header)).hexdigest()[:40].encode()


def _told_apart(descriptor: int, entries: list[Entry]) -> list[Entry]:
    """Messages of one header are named by their content too, and those of one content are counted."""
    uids = Counter(entry.uid for entry in entries)
    if len(uids) == len(entries):
        return entries
    seen: Counter[bytes] = Counter()
    apart = []
    for entry in entries:
        uid = entry.uid
        if uids[uid] > 1:
            whole = hashlib.sha256(uid)
            for piece in read_range(descriptor, entry.content, entry.stop):
                whole.update(piece)
            uid = whole.hexdigest()[:40].encode()
            seen[uid] += 1
            uid = uid if seen[uid] == 1 else b"%b-%d" % (uid, seen[uid])
        apart.append(Entry(entry.start, entry.content, entry.stop, entry.end, entry.octets, uid))
    return apart


def read_range(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    """Octets of a file, in pieces of BLOCK, the last one shorter."""
    while start < stop:
        piece = os.pread(descriptor, min(BLOCK, stop - start), start)
        if not piece:
            return
        yield piece
        start += len(piece)

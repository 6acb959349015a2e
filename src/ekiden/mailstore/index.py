"""What a Maildir's last reader learned, kept in the Maildir: its messages in order, and their sizes on the wire.

The list of messages is used again if the directories new/ and cur/ have not changed since; the sizes always, because
a message in a Maildir never changes (maildir(5)). The file is a help and no truth: one that is torn, foreign or gone
costs the time to read the Maildir anew, nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

NAME = b"ekiden-pop3-index"

_MAGIC = b"ekiden-pop3-index 1"
_SETTLE_NANOSECONDS = 1_100_000_000
"""A directory that changed this shortly before it was read may have changed again in the same tick of its clock."""


class Index:
    """``paths``: ``new/NAME`` or ``cur/NAME``, in order. ``sizes``: octets, -1 for those that nobody asked for.

    ``stamp`` is the time of the last change of new/ and cur/ that the list shows; empty if it shows none.
    """

    def __init__(self, paths: Sequence[bytes] = (), sizes: Sequence[int] = (), stamp: bytes = b"") -> None:
        self.paths = list(paths)
        self.sizes = list(sizes)
        self.stamp = stamp


def directory_stamp(maildir: bytes) -> tuple[bytes, int]:
    """What changes when a message comes or goes, and when that was last (nanoseconds). Raises OSError."""
    new, cur = (os.stat(os.path.join(maildir, part)) for part in (b"new", b"cur"))
    stamp = b"%d-%d-%d %d-%d-%d" % (
        *(new.st_dev, new.st_ino, new.st_mtime_ns),
        *(cur.st_dev, cur.st_ino, cur.st_mtime_ns),
    )
    return stamp, max(new.st_mtime_ns, cur.st_mtime_ns)


def settled(changed: int, now: int) -> bool:
    """Whether a list read at ``now`` shows all changes with the time ``changed``; both nanoseconds."""
    return changed + _SETTLE_NANOSECONDS < now


def load(maildir: bytes) -> Index | None:
    """The index, None if there is none that can be used."""
    try:
        with open(os.path.join(maildir, NAME), "rb") as file:
            data = file.read()
        head, _newline, rest = data.partition(b"\n")
        magic, _tab, stamp = head.partition(b"\t")
        fields = rest.replace(b"\n", b"\t").split(b"\t")
        # The last line says how many there are: without it the file is not whole.
        count = len(fields) // 2 - 1
        if magic != _MAGIC or len(fields) % 2 != 1 or fields[-3:] != [b"end", b"%d" % count, b""]:
            return None
        paths = fields[0:-3:2]
        if any(path[:4] not in (b"new/", b"cur/") or b"/" in path[4:] for path in paths):
            return None
        return Index(paths, list(map(int, fields[1:-3:2])), stamp)
    except (OSError, ValueError):
        return None


def save(maildir: bytes, index: Index) -> None:
    """Keep it for the next reader, if that is possible."""
    lines = [b"%b\t%d" % entry for entry in zip(index.paths, index.sizes, strict=True)]
    if any(b"\n" in line or line.count(b"\t") != 1 for line in lines):
        # A name like that cannot be kept.
        return
    lines.insert(0, _MAGIC + b"\t" + index.stamp)
    lines.append(b"end\t%d\n" % len(index.paths))
    temporary = os.path.join(maildir, b"%b.%d" % (NAME, os.getpid()))
    try:
        # A file that is left by a process that was killed is written over by the next one of its number.
        with open(temporary, "wb", opener=_private) as file:
            file.write(b"\n".join(lines))
        os.rename(temporary, os.path.join(maildir, NAME))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

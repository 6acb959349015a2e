"""What is in a control file, as qmail reads it (qmail-control(5)), for whoever must start at once and for all others.

A file of one fact is its first line; what follows is not looked at. In a file of many lines, blank lines and lines
that begin with ``#`` are skipped, and NUL parts entries as a newline does. Spaces and tabs at the end of a line do
not count, those at its beginning do. Classic programs use the few facts that they need as they are; everybody else
has them checked (``settings.control``).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLANK = b" \t\n"


def control_line(home: str, name: str) -> bytes | None:
    """The fact in ``control/NAME``, None if there is no such file; OSError if it cannot be read."""
    raw = load(os.path.join(home, "control", name))
    return None if raw is None else first_line(raw)


def control_lines(path: str) -> list[bytes] | None:
    """The entries of the file at ``path``, None if there is no such file; OSError if it cannot be read."""
    raw = load(path)
    return None if raw is None else [entry for _number, entry in entries(raw)]


def first_line(raw: bytes) -> bytes:
    """The first line of ``raw`` without the blanks at its end."""
    return raw.partition(b"\n")[0].rstrip(_BLANK)


def entries(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The entries in ``raw``, each with its line number from 1."""
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.startswith((b"#", b"\0")):
            continue
        for entry in line.rstrip(_BLANK).split(b"\0"):
            if entry:
                yield number, entry


def load(path: Path | str) -> bytes | None:
    """The whole content of the file at ``path``, or None if there is none; OSError if it cannot be read.

    A FIFO without a writer does not block: it is an empty file, as for qmail.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # By hand: open() would not close the descriptor of something that turns out to be a directory.
        return b"".join(iter(lambda: os.read(descriptor, 65536), b""))
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)

"""What a recovery could not save, kept in files for a person: ``damaged-N/messages/``.

``5.eml`` is the content of message 5 as far as it can be read, with line ends as files have them; ``5.txt`` says what
is wrong with it, who its sender and its recipients are, and of which of them that is certain. A message of which only
some recipients could not be saved is there for these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ekiden.queue.inspect import text
from ekiden.queue.pages import Value
from ekiden.queue.recovery import Finding
from ekiden.wire.carriage import without_cr

MESSAGES = "messages"

Pieces = Callable[[dict[str, Value]], Iterable[bytes]]
"""A row's content in wire form, piece by piece, as far as it can be read. OSError from what cannot."""


def keep(directory: Path, findings: Iterable[Finding], pieces: Pieces) -> None:
    """Write what is known of those that are not saved, durably. OSError if there is no room."""
    lost: dict[int, list[Finding]] = {}
    for finding in findings:
        if not finding.saved:
            lost.setdefault(finding.message, []).append(finding)
    if not lost:
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    for number, found in lost.items():
        values = next((each.values for each in found if each.values), None)
        said = _write(directory / f"{number}.eml", without_cr(_readable(pieces(values)))) if values else 0
        lines = [*_describe(found), "content: none that is known" if not said else f"content: in {number}.eml"]
        _write(directory / f"{number}.txt", [f"{line}\n".encode("utf-8", "backslashreplace") for line in lines])
    make_durable(directory)


def _describe(found: list[Finding]) -> Iterator[str]:
    for finding in found:
        yield f"message {finding.message}: {finding.text}"
    first = found[0]
    if first.sender is not None:
        yield f"sender: {_shown(first.sender)}{'' if first.sender_certain else NOT_CERTAIN}"
    for finding in found:
        left = list(finding.certain)
        for address in finding.recipients:
            certain = address in left
            if certain:
                left.remove(address)
            yield f"recipient: {_shown(address)}{'' if certain else NOT_CERTAIN}"


NOT_CERTAIN = " (not certain)"


def _shown(address: bytes) -> str:
    """An address on one line."""
    shown = text(address)
    return shown if shown.isprintable() else ascii(shown)


def _readable(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What comes before an error."""
    try:
        yield from pieces
    except OSError:
        return


def _write(path: Path, pieces: Iterable[bytes]) -> int:
    """A new file, durable; how many octets. None is left if there are none."""
    count = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        for piece in pieces:
            count += file.write(piece)
        file.flush()
        os.fsync(descriptor)
    if not count:
        path.unlink()
    return count


def make_durable(path: Path) -> None:
    """Wait until a file's octets, or a directory's names, are on the disk. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

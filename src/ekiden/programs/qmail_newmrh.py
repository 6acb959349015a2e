"""qmail-newmrh: compile control/morercpthosts to control/morercpthosts.cdb (qmail-newmrh(8)).

Exit code 0, or 111 if a file cannot be read, written or moved; the compiled file is then as it was. Readers see the
old file or the new one. Two at once are not guarded against each other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ekiden.tables.cdb import replace_cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments, and ignores any, as the original does."""
    control = Path(home, "control")
    os.umask(0o033)
    try:
        text = (control / "morercpthosts").read_bytes()
    except OSError as error:
        return _die(f"unable to read control/morercpthosts: {error.strerror}")
    try:
        replace_cdb(control / "morercpthosts.cdb", control / "morercpthosts.tmp", _records(text))
    except OSError as error:
        if error.filename2:
            return _die(f"unable to move control/morercpthosts.tmp to control/morercpthosts.cdb: {error.strerror}")
        return _die(f"unable to write to control/morercpthosts.tmp: {error.strerror}")
    return 0


def _records(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in text.lower().split(b"\n"):
        host = line.rstrip(b" \t")
        if host and not host.startswith(b"#"):
            yield host, b""


def _die(text: str) -> int:
    print(f"qmail-newmrh: fatal: {text}", file=sys.stderr)
    return 111

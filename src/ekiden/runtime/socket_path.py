"""Unix sockets below directories with long names: their paths may not exceed 107 octets (unix(7))."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def short_path(directory: Path | str, name: str) -> Iterator[str]:
    """A short path to what has that name in a directory, as long as this lasts. OSError if there is no directory."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)

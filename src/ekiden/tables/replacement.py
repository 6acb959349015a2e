"""Replacing a file as a whole: readers see the old one or the new one, also after a crash."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def replace_file(path: str, temporary: str, pieces: Iterable[bytes]) -> None:
    """Write ``pieces`` to ``temporary``, have them on disk, and give the file the name ``path``.

    ``temporary`` must be on the same file system; a file of that name is destroyed. Raises OSError, or whatever
    ``pieces`` raises; ``path`` is then as it was.
    """
    with open(temporary, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)

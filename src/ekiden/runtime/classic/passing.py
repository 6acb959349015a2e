"""The message on descriptor 0, as a .qmail command gets it, sent on with a Delivered-To line in front."""

from __future__ import annotations

import os

from ekiden.runtime.classic.submission import submit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ekiden.runtime.injection.door import Letter

_READ = 262_144


def pass_on(home: str, letter: Letter, delivered_to: bytes) -> int:
    """Queue it; the process id that the log shows as ``qp``. Raises ``NotQueued``."""
    return submit(home, letter, _content(delivered_to))


def _content(first: bytes) -> Iterator[bytes]:
    yield first
    while piece := os.read(0, _READ):
        yield piece

"""Filters: standard input to standard output, each piece passed on as soon as it is there."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_READ = 65536


def run_filter(convert: Callable[[bytes], bytes], finish: Callable[[], bytes]) -> int:
    """Convert everything; the exit code: 0, or 111 if reading or writing fails."""
    try:
        while piece := os.read(0, _READ):
            _write(convert(piece))
        _write(finish())
    except OSError:
        return 111
    return 0


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]

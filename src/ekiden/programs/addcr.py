"""addcr: standard input to standard output with a CR before each LF (addcr.1).

Exit code 111 if it cannot be read or written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ekiden.runtime.ucspi.filtering import run_filter
from ekiden.wire.carriage import add_cr


def main(argv: Sequence[str], home: Path) -> int:
    """Takes no arguments."""
    return run_filter(add_cr, bytes)

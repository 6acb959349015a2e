"""addcr: standard input to standard output with a CR before each LF (addcr.1).

Exit code 111 if it cannot be read or written.
"""

from __future__ import annotations

from ekiden.runtime.ucspi.filtering import run_filter
from ekiden.wire.carriage import add_cr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    return run_filter(add_cr, bytes)

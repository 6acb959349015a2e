"""delcr: standard input to standard output without the CR before each LF (delcr.1).

Exit code 111 if it cannot be read or written.
"""

from __future__ import annotations

from ekiden.runtime.ucspi.filtering import run_filter
from ekiden.wire.carriage import Remover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    remover = Remover()
    return run_filter(remover.feed, remover.finish)

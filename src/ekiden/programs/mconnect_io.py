"""mconnect-io: talk over descriptors 6 and 7, a CR put before each LF that goes out (mconnect.1).

Ends when the other side does.
"""

from __future__ import annotations

from ekiden.runtime.ucspi.between import Way, carry
from ekiden.wire.carriage import add_cr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    incoming = Way(6, 1, bytes, closes=False)
    carry([Way(0, 7, add_cr, closes=False), incoming], incoming)
    return 0

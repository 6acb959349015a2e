"""fixcrio PROGRAM [ARG ...]: put the CR before each LF that has none, into a program and out of it (fixcrio.1).

Becomes the program; a child of its passes the octets on. Exit code 100 for wrong use, 111 if the program cannot be
run.
"""

from __future__ import annotations

import sys

from ekiden.runtime.ucspi.between import stand_between
from ekiden.wire.carriage import Inserter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the program and its arguments."""
    if not argv:
        print("fixcrio: usage: fixcrio program [ arg ... ]", file=sys.stderr)
        return 100
    return stand_between("fixcrio", argv, Inserter().feed, Inserter().feed)

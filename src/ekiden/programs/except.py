"""except PROGRAM [ARG ...]: turn a program's exit code round (except(1)).

100 where the program ends with 0, 111 where it ends with 111 or crashes, 0 for everything else.
"""

from __future__ import annotations

import sys

from ekiden.runtime.classic.child import decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the program and its arguments."""
    if not argv:
        print("except: usage: except program [ arg ... ]", file=sys.stderr)
        return 100
    return {0: 100, 111: 111}.get(decide("except", argv), 0)

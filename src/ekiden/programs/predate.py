"""predate child: run ``child`` with our standard input, a ``Date`` field in front of it.

The date is in the host's zone. datemail is ``predate sendmail``, for mail programs that write no date of their own.
The exit code is the child's; 100 without a child, 111 if it cannot be run or crashed.
"""

from __future__ import annotations

import sys
import time

from ekiden.base.dates import local_date
from ekiden.runtime.classic.child import run_fed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the child and its arguments."""
    if not argv:
        print("predate: usage: predate child", file=sys.stderr)
        return 100
    return run_fed("predate", argv, b"Date: %b\n" % local_date(time.time()))

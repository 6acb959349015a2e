"""argv0 REALNAME ZERO [ARG ...]: run a program under another 0th argument (argv0.1).

Exit code 100 for wrong use, 111 if the program cannot be run.
"""

from __future__ import annotations

import sys

from ekiden.runtime.ucspi.execute import execute
from ekiden.runtime.ucspi.faults import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the program's file, its name, and its arguments."""
    if len(argv) < 2:
        print("argv0: usage: argv0 realname program [ arg ... ]", file=sys.stderr)
        return 100
    reason = execute(argv[1:], file=argv[0])
    print(f"argv0: fatal: unable to run {argv[0]}: {explain(reason)}", file=sys.stderr)
    return 111

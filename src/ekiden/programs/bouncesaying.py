"""bouncesaying ERROR [PROGRAM [ARG ...]]: bounce the message if the program ends with 0 (bouncesaying(1)).

Exit code 100 for a bounce (always, without a program), 111 where the program ends with 111 or crashes, else 0.
"""

from __future__ import annotations

import sys

from ekiden.runtime.classic.child import decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the error and what decides whether it is meant."""
    if not argv:
        print("bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]", file=sys.stderr)
        return 100
    code = decide("bouncesaying", argv[1:]) if argv[1:] else 0
    if code:
        return 111 if code == 111 else 0
    print(argv[0], file=sys.stderr)
    return 100

"""forward ADDRESS ...: send the message on descriptor 0 on to these addresses, from a .qmail file (forward(1)).

Envelope sender is NEWSENDER, DTLINE goes in front (qmail-command(8)). Exit code 0, and the process id that the log
shows as ``qp`` on standard error; 100 without those variables or where the queue refuses for good, else 111.
"""

from __future__ import annotations

import os
import sys

from ekiden.runtime.classic.passing import pass_on
from ekiden.runtime.injection.door import Letter, NotQueued

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the addresses, each complete."""
    for name in (b"NEWSENDER", b"DTLINE"):
        if name not in os.environb:
            print(f"forward: fatal: {name.decode()} not set", file=sys.stderr)
            return 100
    letter = Letter(os.environb[b"NEWSENDER"], [os.fsencode(each) for each in argv])
    try:
        qp = pass_on(home, letter, os.environb[b"DTLINE"])
    except NotQueued as error:
        print(f"forward: fatal: {error}", file=sys.stderr)
        return 100 if error.permanent else 111
    print(f"forward: qp {qp}", file=sys.stderr)
    return 0

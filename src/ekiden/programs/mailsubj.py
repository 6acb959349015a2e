"""mailsubj SUBJECT RECIP ...: send standard input as a message with that subject (mailsubj(1)).

Subject and recipients go into the header as they are. Exit codes are qmail-inject's.
"""

from __future__ import annotations

import os
import sys

from ekiden.programs.qmail_inject import Request, run
from ekiden.runtime.classic.child import run_fed
from ekiden.runtime.classic.pieces import standard_input
from ekiden.runtime.classic.submission import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the subject and the recipients."""
    if not argv:
        print("mailsubj: usage: mailsubj subject recip ...", file=sys.stderr)
        return 100
    subject, *recipients = map(os.fsencode, argv)
    header = b"Subject: " + subject + b"\nTo: " + b" ".join(recipients) + b"\n\n"
    if is_foreign(home, "qmail-inject"):
        return run_fed("mailsubj", [os.path.join(home, "bin", "qmail-inject")], header)
    return run(Request(), home, standard_input(header))

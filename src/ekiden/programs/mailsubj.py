"""mailsubj SUBJECT RECIP ...: send standard input as a message with that subject (mailsubj(1)).

Subject and recipients go into the header as they are. Exit codes are qmail-inject's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.programs.qmail_inject import Request, run
from ekiden.runtime.pieces import standard_input


def main(argv: Sequence[str], home: Path) -> int:
    """``argv`` is the subject and the recipients."""
    if not argv:
        print("mailsubj: usage: mailsubj subject recip ...", file=sys.stderr)
        return 100
    subject, *recipients = map(os.fsencode, argv)
    header = b"Subject: " + subject + b"\nTo: " + b" ".join(recipients) + b"\n\n"
    return run(Request(), home, standard_input(header))

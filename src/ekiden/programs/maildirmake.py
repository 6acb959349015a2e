"""maildirmake: create a directory in Maildir format (maildirmake.1). Exit codes: 100 usage, 111 it cannot be made."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes the directory's name; it must not exist."""
    if not argv:
        print("maildirmake: usage: maildirmake name", file=sys.stderr)
        return 100
    os.umask(0o077)
    for path in (argv[0], *(os.path.join(argv[0], name) for name in ("tmp", "new", "cur"))):
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            print(f"maildirmake: fatal: unable to mkdir {path}: {error.strerror}", file=sys.stderr)
            return 111
    return 0

"""config: the first control files, from what DNS says about this host.

Exit code 0 if they are written; 100 if the canonical name is not found or the home is configured already, and then
nothing is written; 111 if writing fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.settings.first import ConfigurationError, Resolver, configure_by_dns


def main(argv: Sequence[str], home: str, resolver: Resolver | None = None) -> int:
    """``argv`` is the arguments without the program's name: none."""
    if argv:
        print("config: usage: config", file=sys.stderr)
        return 100
    try:
        configure_by_dns(Path(home), print, resolver)
    except ConfigurationError as error:
        print(error)
        return 100
    except OSError as error:
        print(f"config: fatal: unable to write {error.filename}: {error.strerror}", file=sys.stderr)
        return 111
    return 0

"""config-fast NAME: the first control files, from the host's fully qualified name, without DNS.

Exit code 0 if they are written, 100 if they are not because of the name or because the home is configured already,
111 if writing them fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.settings.first import ConfigurationError, configure


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the arguments without the program's name."""
    if len(argv) != 1:
        print("config-fast: usage: config-fast fully.qualified.host.name", file=sys.stderr)
        return 100
    try:
        configure(Path(home), argv[0], print)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 100
    except OSError as error:
        print(f"config-fast: fatal: unable to write {error.filename}: {error.strerror}", file=sys.stderr)
        return 111
    return 0

"""newinclude LIST: compile sendmail's :include: file LIST into LIST.bin, fastforward's form (newinclude(1)).

Exit code 0; 111 if a file cannot be read or written or a line cannot be meant, LIST.bin being as it was then; 100 for
wrong use.
"""

from __future__ import annotations

import os
import sys

from ekiden.routing.aliases import BadAlias, list_commands
from ekiden.runtime.classic.alias_domains import read_domains
from ekiden.tables.replacement import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the list's name."""
    if len(argv) != 1:
        print("newinclude: usage: newinclude list", file=sys.stderr)
        return 100
    source = argv[0]
    os.umask(0o033)
    try:
        domains = read_domains(home)
        with open(source, "rb") as file:
            text = file.read()
        replace_file(f"{source}.bin", f"{source}.tmp", list_commands(text, domains))
    except BadAlias as error:
        print(f"newinclude: fatal: {source}:{error.line}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"newinclude: fatal: unable to use {error.filename or source}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 111

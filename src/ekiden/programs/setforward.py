"""setforward CDB TMP: compile the forwarding table on descriptor 0 into a database (setforward(1)).

Exit code 0; 100 for wrong use or a table that cannot be meant, 111 if a file cannot be read or written. CDB is as it
was unless the exit code is 0.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ekiden.routing.aliases import BadAlias
from ekiden.routing.forwarding import table_records
from ekiden.tables.cdb import replace_cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the database's name and that of a temporary file on the same file system."""
    if len(argv) != 2:
        print("setforward: usage: setforward data.cdb data.tmp", file=sys.stderr)
        return 100
    database, temporary = argv
    os.umask(0o033)
    try:
        text = sys.stdin.buffer.read()
        replace_cdb(Path(database), Path(temporary), table_records(text))
    except BadAlias as error:
        print(f"setforward: fatal: line {error.line}: {error}", file=sys.stderr)
        return 100
    except (OSError, OverflowError) as error:
        name = getattr(error, "filename", None) or temporary
        reason = getattr(error, "strerror", None) or error
        print(f"setforward: fatal: unable to use {name}: {reason}", file=sys.stderr)
        return 111
    return 0

"""printforward: the database on descriptor 0 as a table that setforward reads (printforward(1)).

Exit code 0; 100 for what is no such database, 111 if reading or writing fails.
"""

from __future__ import annotations

import os
import sys

from ekiden.delivery.content import write_all
from ekiden.routing.forwarding import BadDatabase, as_instruction
from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        text = sys.stdin.buffer.read()
    except OSError as error:
        print(f"printforward: fatal: unable to read input: {error.strerror}", file=sys.stderr)
        return 111
    try:
        # What is on descriptor 0 may be a pipe, and a database is read by position.
        descriptor = os.memfd_create("database")
        write_all(descriptor, text)
        with Cdb(f"/proc/self/fd/{descriptor}") as database:
            for key, value in database.items():
                sys.stdout.buffer.write(as_instruction(key, value))
        sys.stdout.buffer.flush()
    except (TableError, BadDatabase) as error:
        reason = str(error) if isinstance(error, BadDatabase) else "it is damaged, or none at all"
        print(f"printforward: fatal: bad database format: {reason}", file=sys.stderr)
        return 100
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"printforward: fatal: unable to write output: {error.strerror}", file=sys.stderr)
        return 111
    return 0

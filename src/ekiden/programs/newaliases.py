"""newaliases [FILE]: compile sendmail's aliases into FILE.cdb, fastforward's database (newaliases(1)).

FILE is HOME/control/aliases if that exists, else /etc/aliases. Exit code 0; 111 if a file cannot be read or written
or a line cannot be meant: FILE.cdb is then as it was. 100 for wrong use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ekiden.routing.aliases import BadAlias, alias_records
from ekiden.runtime.classic.alias_domains import read_domains
from ekiden.tables.cdb import replace_cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM = "/etc/aliases"


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the alias file's name or nothing."""
    if len(argv) > 1 or (argv and argv[0].startswith("-")):
        print("newaliases: usage: newaliases [ file ]", file=sys.stderr)
        return 100
    own = Path(home, "control", "aliases")
    source = argv[0] if argv else str(own) if own.exists() else SYSTEM
    os.umask(0o033)
    try:
        domains = read_domains(home)
        with open(source, "rb") as file:
            text = file.read()
        replace_cdb(Path(f"{source}.cdb"), Path(f"{source}.tmp"), alias_records(text, domains))
    except BadAlias as error:
        print(f"newaliases: fatal: {source}:{error.line}: {error}", file=sys.stderr)
    except (OSError, OverflowError) as error:
        name = getattr(error, "filename", None) or f"{source}.tmp"
        reason = getattr(error, "strerror", None) or error
        print(f"newaliases: fatal: unable to use {name}: {reason}", file=sys.stderr)
    else:
        return 0
    return 111

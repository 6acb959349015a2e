"""setmaillist BIN TMP: compile the mailing list on descriptor 0 into fastforward's form (setmaillist(1)).

Exit code 0; 111 if a file cannot be read or written or a line cannot be meant, BIN being as it was then; 100 for
wrong use.
"""

from __future__ import annotations

import os
import sys

from ekiden.routing.aliases import BadAlias
from ekiden.routing.forwarding import as_command
from ekiden.tables.replacement import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the list's name and that of a temporary file on the same file system."""
    if len(argv) != 2:
        print("setmaillist: usage: setmaillist list.bin list.tmp", file=sys.stderr)
        return 100
    os.umask(0o033)
    try:
        replace_file(argv[0], argv[1], commands(sys.stdin.buffer.read()))
    except BadAlias as error:
        print(f"setmaillist: fatal: line {error.line}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"setmaillist: fatal: unable to use {error.filename or argv[1]}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 111


def commands(text: bytes) -> Iterator[bytes]:
    """The list's commands, each ended by NUL; raises BadAlias."""
    for number, raw in enumerate(text.split(b"\n"), 1):
        line = raw.rstrip(b" \t")
        if not line or line.startswith(b"#"):
            continue
        if b"\0" in line:
            raise BadAlias(number, "NUL is not allowed")
        if line[:1] in b"|!":
            raise BadAlias(number, "a list may not run programs")
        try:
            yield as_command(line) + b"\0"
        except ValueError as error:
            raise BadAlias(number, str(error)) from None

"""printmaillist: the binary mailing list on descriptor 0 as lines that setmaillist reads (printmaillist(1)).

Exit code 0; 100 for what is no such list, 111 if reading or writing fails.
"""

from __future__ import annotations

import sys

from ekiden.routing.forwarding import BadDatabase, commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    try:
        lines = commands(sys.stdin.buffer.read())
        if any(b"\n" in line or line[-1] in b" \t" or line[0] in b"|!" for line in lines):
            raise BadDatabase("a line is none that setmaillist writes")
        sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines))
        sys.stdout.buffer.flush()
    except BadDatabase as error:
        print(f"printmaillist: fatal: bad mailing list format: {error}", file=sys.stderr)
        return 100
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"printmaillist: fatal: unable to read or write: {error.strerror}", file=sys.stderr)
        return 111
    return 0

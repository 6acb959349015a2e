"""qmail-newu: compile users/assign into users/cdb (qmail-newu.8, qmail-users.5).

The old users/cdb stays in place if anything is wrong; exit code 111 then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ekiden.tables.cdb import replace_cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

_FIELDS = 6


class BadFormat(ValueError):
    """A line that is no assignment; the text says which and why."""


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    os.umask(0o033)
    assign, cdb, temporary = (Path(home, "users", name) for name in ("assign", "cdb", "cdb.tmp"))
    try:
        with open(assign, "rb") as file:
            replace_cdb(cdb, temporary, records(file))
    except BadFormat as error:
        print(f"qmail-newu: fatal: bad format in users/assign: {error}", file=sys.stderr)
    except (OSError, OverflowError) as error:
        name = os.path.basename(str(getattr(error, "filename", None) or temporary))
        reason = getattr(error, "strerror", None) or error
        print(f"qmail-newu: fatal: unable to use users/{name}: {reason}", file=sys.stderr)
    else:
        return 0
    return 111


def records(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The database's records for the lines of users/assign, which must end with a line beginning with a dot."""
    last_octets = b""
    for number, line in enumerate(file, 1):
        if line.startswith(b"."):
            yield b"", last_octets
            return
        key, value = _record(number, line)
        # As in the key, in small letters, because that is what is looked for; qmail-newu takes the line's.
        if key[-1:] != b"\0" and len(key) > 1 and key[-1:] not in last_octets:
            last_octets += key[-1:]
        yield key, value
    raise BadFormat("the file does not end with a line that holds a dot")


def _record(number: int, line: bytes) -> tuple[bytes, bytes]:
    """``=local:...`` has the key ``!local NUL``, ``+loc:...`` the key ``!loc``; fields are separated by NUL."""
    name, colon, rest = line.partition(b":")
    fields = rest.split(b":", _FIELDS)
    if b"\0" in line or not line.endswith(b"\n"):
        raise BadFormat(f"line {number} holds a NUL or is cut off")
    if not name or not colon or len(fields) <= _FIELDS:
        raise BadFormat(f"line {number} does not have the form =local:user:uid:gid:homedir:dash:ext:")
    end = b"" if name.startswith(b"+") else b"\0"
    return b"!" + name[1:].lower() + end, b"\0".join(fields[:_FIELDS])

"""tcprulescheck CDB [IP]: what compiled tcp rules do with a connection (tcprulescheck(1), docs/tcprules.md).

The connection is described by TCPREMOTEIP, TCPREMOTEHOST and TCPREMOTEINFO in the environment; IP goes before
TCPREMOTEIP. Exit code 0 whatever the rules say, 100 if CDB is not given, 111 if it cannot be read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ekiden.policy.tcprules import decode_instructions, find_rule
from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the arguments without the program's name."""
    if not argv:
        print("tcprulescheck: usage: tcprulescheck rules.cdb", file=sys.stderr)
        return 100
    environment = os.environb
    address = os.fsencode(argv[1]) if len(argv) > 1 else environment.get(b"TCPREMOTEIP", b"")
    try:
        with Cdb(argv[0]) as table:
            found = find_rule(
                table.get, address, environment.get(b"TCPREMOTEHOST"), environment.get(b"TCPREMOTEINFO")
            )
    except TableError as error:
        print(f"tcprulescheck: fatal: {error}", file=sys.stderr)
        return 111
    sys.stdout.buffer.write(b"default:\nallow connection\n" if found is None else _describe(*found))
    return 0


def _describe(key: bytes, instructions: bytes) -> bytes:
    verdict = decode_instructions(key, instructions)
    lines = [b"rule %b:" % key]
    if verdict.allow:
        lines += [b"set environment variable %b=%b" % variable for variable in verdict.environment.items()]
    lines.append(b"allow connection" if verdict.allow else b"deny connection")
    return b"\n".join(lines) + b"\n"

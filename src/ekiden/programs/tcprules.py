"""tcprules CDB TMP: compile tcp rules from standard input (tcprules(1), docs/tcprules.md).

Exit code 0; 100 if a line is no rule or the arguments are wrong, 111 if a file cannot be read, written or moved. CDB
is left alone unless the code is 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.policy.ruletext import RuleError, compile_rules, parse_rules
from ekiden.tables.cdb import replace_cdb


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the arguments without the program's name."""
    if len(argv) < 2:
        print("tcprules: usage: tcprules rules.cdb rules.tmp", file=sys.stderr)
        return 100
    cdb, temporary = argv[:2]
    os.umask(0o033)
    try:
        lines = sys.stdin.buffer.read().split(b"\n")
    except OSError as error:
        return _die(111, f"unable to read input: {error.strerror}")
    try:
        replace_cdb(Path(cdb), Path(temporary), compile_rules(parse_rules(lines)))
    except RuleError as error:
        return _die(100, f"unable to parse this line: {os.fsdecode(error.line)}")
    except OSError as error:
        if error.filename2:
            return _die(111, f"unable to move {temporary} to {cdb}: {error.strerror}")
        return _die(111, f"unable to {'create' if error.filename else 'write'} {temporary}: {error.strerror}")
    return 0


def _die(code: int, text: str) -> int:
    sys.stderr.buffer.write(b"tcprules: fatal: " + os.fsencode(text) + b"\n")
    return code

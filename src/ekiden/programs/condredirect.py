"""condredirect NEWADDRESS PROGRAM [ARG ...]: redirect the message if the program ends with 0 (condredirect(1)).

Exit code 99 when it is redirected, so that the rest of the .qmail file is skipped; 111 where the program ends with
111 or crashes or the message cannot be queued now, 100 for wrong use or refusal for good, 0 for everything else.
"""

from __future__ import annotations

import os
import sys

from ekiden.runtime.classic.child import decide
from ekiden.runtime.classic.passing import pass_on
from ekiden.runtime.injection.door import Letter, NotQueued

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the new address, the program and its arguments."""
    if len(argv) < 2:
        print("condredirect: usage: condredirect newaddress program [ arg ... ]", file=sys.stderr)
        return 100
    code = decide("condredirect", argv[1:])
    if code:
        return 111 if code == 111 else 0
    return _redirect(os.fsencode(argv[0]), home)


def _redirect(address: bytes, home: str) -> int:
    for name in (b"SENDER", b"DTLINE"):
        if name not in os.environb:
            return _fail(100, f"{name.decode()} not set")
    letter = Letter(os.environb[b"SENDER"], [address])
    try:
        os.lseek(0, 0, os.SEEK_SET)
        qp = pass_on(home, letter, os.environb[b"DTLINE"])
    except NotQueued as error:
        return _fail(100 if error.permanent else 111, str(error))
    except OSError as error:
        return _fail(111, f"unable to rewind: {error.strerror}")
    print(f"condredirect: qp {qp}", file=sys.stderr)
    return 99


def _fail(code: int, text: str) -> int:
    print(f"condredirect: fatal: {text}", file=sys.stderr)
    return code

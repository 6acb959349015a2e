"""tcpclient [OPTIONS] HOST PORT PROGRAM [ARG ...]: connect by TCP and become a program (tcpclient.1).

The program reads from descriptor 6 and writes to 7. Exit code 100 for wrong use, 111 if there is no connection.
"""

from __future__ import annotations

import os
import sys

from ekiden.runtime.ucspi.calling import Calling, call, parse
from ekiden.runtime.ucspi.connection import describe, ends_of, find_out, merge
from ekiden.runtime.ucspi.execute import execute
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, say_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = (
    "[ -46hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] [ -t timeoutinfo ] "
    "[ -I interface ] host port program"
)


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options, host, port and the program."""
    try:
        calling = parse(argv)
    except WrongUse as error:
        return say_usage("tcpclient", _USAGE, error)
    try:
        _become(calling)
    except Fatal as error:
        if calling.verbosity and str(error):
            print(f"tcpclient: fatal: {error}", file=sys.stderr)
    return 111


def _become(calling: Calling) -> None:
    connection = call("tcpclient", calling)
    try:
        ends = ends_of(connection.getsockname(), connection.getpeername(), calling.families.prefer_ipv6)
    except OSError as error:
        raise Fatal(f"unable to get local address: {explain(error)}") from None
    if calling.verbosity > 1:
        print(f"tcpclient: connected to {ends.remote_ip} port {ends.remote_port}", file=sys.stderr, flush=True)
    environment = dict(os.environb)
    merge(environment, describe(ends, find_out(ends, calling.search)))
    # The connection may be 6 or 7 itself.
    held = os.dup(connection.detach())
    os.dup2(held, 6)
    os.dup2(6, 7)
    reason = execute(calling.program, environment)
    raise Fatal(f"unable to run {calling.program[0]}: {explain(reason)}")

"""tcpserver [OPTIONS] HOST PORT PROGRAM [ARG ...]: run a program for each TCP connection (tcpserver.1).

Exit code 0 after SIGTERM; 100 for wrong use; 111 if it cannot listen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ekiden.runtime.ucspi.server import Server
from ekiden.runtime.ucspi.serving import give_up_root, listen, parse, settle
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, say_usage

_USAGE = (
    "[ -461UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] [ -b backlog ] "
    "[ -l localname ] [ -t timeout ] [ -I interface ] host port program"
)


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options, host, port and the program."""
    try:
        serving = parse(argv)
    except WrongUse as error:
        return say_usage("tcpserver", _USAGE, error)
    try:
        listener = listen(serving)
        give_up_root(serving)
    except Fatal as error:
        if serving.verbosity:
            print(f"tcpserver: fatal: {error}", file=sys.stderr)
        return 111
    settle(serving, listener)
    return Server("tcpserver", listener, serving).run()

"""tcpserver [OPTIONS] HOST PORT PROGRAM [ARG ...]: run a program for each TCP connection (tcpserver.1).

Exit code 0 after SIGTERM; 100 for wrong use; 111 if it cannot listen.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from ekiden.runtime.ucspi.server import Server
from ekiden.runtime.ucspi.serving import give_up_root, listen, parse
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse

_USAGE = (
    "[ -461UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] [ -b backlog ] "
    "[ -l localname ] [ -t timeout ] [ -I interface ] host port program"
)


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options, host, port and the program."""
    try:
        serving = parse(argv)
    except WrongUse as error:
        if str(error):
            print(f"tcpserver: {error}", file=sys.stderr)
        print(f"tcpserver: usage: tcpserver {_USAGE}", file=sys.stderr)
        return 100
    try:
        listener = listen(serving)
        give_up_root(serving)
    except Fatal as error:
        if serving.verbosity:
            print(f"tcpserver: fatal: {error}", file=sys.stderr)
        return 111
    if serving.print_port:
        os.write(1, b"%d\n" % listener.getsockname()[1])
    # Nobody waits for us at the end of our input or output.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    # What is there stays: children are not to copy it because the collector touched it.
    gc.freeze()
    gc.disable()
    return Server("tcpserver", listener, serving).run()

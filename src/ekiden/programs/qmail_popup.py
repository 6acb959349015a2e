"""qmail-popup: read a POP3 user's name and password, and run a program that checks them (qmail-popup(8)).

The program finds name, password and the greeting's timestamp on descriptor 3, each with a NUL behind it
(cr.yp.to/checkpwd/interface.html), and the client on descriptors 0 and 1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

from ekiden.runtime.pop3.stream import Gone, Silent, Stream
from ekiden.wire.pop3.events import Apop, Ended, Event, Login
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server
from ekiden.wire.pop3.session import error

_SECONDS = 1200
_TEMPORARY = 111


def main(argv: Sequence[str], home: str) -> int:
    """Arguments: this host's name, the program and its arguments. The exit code is always 1, as the original's."""
    stream = Stream(0, 1, _SECONDS)
    with contextlib.suppress(Gone, Silent):
        if len(argv) < 2:
            stream.write(error("usage: qmail-popup hostname subprogram"))
        else:
            _serve(stream, argv[0], argv[1:])
    return 1


def _serve(stream: Stream, host: str, program: Sequence[str]) -> None:
    """Until the program has had the client. Raises Gone, Silent."""
    stamp = f"<{os.getpid()}.{int(time.time())}@{host}>".encode("utf-8", "surrogateescape")
    server = Server(Profile(greeting="POP3", timestamp=stamp, mechanisms=(b"PLAIN",)))
    server.greet()
    while True:
        event = server.next_event()
        if event is not None:
            stream.write(server.output())
            if isinstance(event, Ended):
                return
            stream.write(_hand_over(program, event, stamp))
            return
        stream.write(server.output())
        # An octet at a time: what follows the password is the program's to read.
        data = stream.read(1)
        if not data:
            return
        server.receive(data)


def _hand_over(program: Sequence[str], event: Event, stamp: bytes) -> bytes:
    """Run the program; what is to be said to the client when it has ended."""
    if isinstance(event, Login):
        credentials = (event.user, event.password, stamp)
    else:
        assert isinstance(event, Apop)
        credentials = (event.user, event.digest, stamp)
    try:
        status = _run(program, b"".join(field + b"\0" for field in credentials))
    except OSError as failed:
        print(f"qmail-popup: unable to run {program[0]}: {failed.strerror}", file=sys.stderr)
        return error("unable to check passwords, try again later", "SYS/TEMP")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return error("aack, child crashed", "SYS/TEMP")
    if code == _TEMPORARY:
        return error("unable to check passwords, try again later", "SYS/TEMP")
    return error("authorization failed", "AUTH") if code else b""


def _run(program: Sequence[str], credentials: bytes) -> int:
    """The program's wait status. Raises OSError if it cannot be run."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, reading, 3)]
        # Python ignores SIGPIPE; programs expect it.
        child = os.posix_spawnp(
            program[0], list(program), os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE]
        )
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    with contextlib.suppress(BrokenPipeError):
        os.write(writing, credentials)
    os.close(writing)
    return os.waitpid(child, 0)[1]

"""tcp-env [-rR] [-t TIMEOUT] PROGRAM [ARG ...]: tell a program about its TCP connection, from inetd (tcp-env(1)).

Descriptor 0 is the connection. Sets the variables of tcp-environ(5) and becomes the program; where PROTO is TCP
already, they are left as they are. Exit code 111 if descriptor 0 is no such connection or the program cannot be run.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from ekiden.runtime.classic.options import options
from ekiden.runtime.ident import remote_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SOFT = "softdnserror"
_TRY_AGAIN = 2
"""h_errno of a name server that does not answer (netdb.h)."""

_MAPPED = "::ffff:"


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and the program."""
    # As in the original, a wrong option is told and passed over: mail comes in all the same.
    found, program = options(argv, "rRt:", lambda problem: print(f"tcp-env: {problem}", file=sys.stderr))
    asks, timeout = True, 30.0
    for letter, value in found:
        if letter == "t":
            timeout = float(value) if value.isdecimal() else timeout
        else:
            asks = letter == "r"
    if not program:
        return 111
    try:
        if os.environ.get("PROTO") != "TCP":
            _describe(timeout if asks else None)
        # Python ignores SIGPIPE; programs expect it.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(program[0], program)
    except OSError as error:
        print(f"tcp-env: fatal: {error.strerror}", file=sys.stderr)
        return 111


def _describe(ident_timeout: float | None) -> None:
    with socket.socket(fileno=os.dup(0)) as connection:
        local, remote = _place(connection.getsockname()), _place(connection.getpeername())
    os.environ["PROTO"] = "TCP"
    for side, (address, port) in (("LOCAL", local), ("REMOTE", remote)):
        os.environ[f"TCP{side}PORT"] = str(port)
        os.environ[f"TCP{side}IP"] = address
        _set(f"TCP{side}HOST", _name(address))
    user = None if ident_timeout is None else remote_user(local, remote, ident_timeout)
    _set("TCPREMOTEINFO", None if user is None else os.fsdecode(user.replace(b"\0", b"")))


def _place(name: object) -> tuple[str, int]:
    """Address and port; an IPv4 address in IPv6's clothing is shown without. OSError for other sockets."""
    if not isinstance(name, tuple):
        raise OSError(0, "descriptor 0 is no TCP connection")
    address, port = name[0], name[1]
    return (address[len(_MAPPED) :] if address.startswith(_MAPPED) else address), port


def _name(address: str) -> str | None:
    try:
        return socket.gethostbyaddr(address)[0].lower()
    except OSError as error:
        return _SOFT if error.errno == _TRY_AGAIN else None


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value

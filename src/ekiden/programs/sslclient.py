"""sslclient [OPTIONS] HOST PORT PROGRAM [ARG ...]: tcpclient for TLS (ucspi-ssl's sslclient.1, docs/sslclient.md).

The program reads from descriptor 6 and writes to 7. Exit code 100 for wrong use, 111 if there is no TLS connection.
"""

from __future__ import annotations

import fcntl
import os
import ssl
import sys

from ekiden.runtime.ucspi.calling import Calling, call, parse
from ekiden.runtime.ucspi.certificates import client_context, password, variables
from ekiden.runtime.ucspi.connection import describe, ends_of, find_out, merge
from ekiden.runtime.ucspi.execute import execute
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.tunnel import shake_hands, translate
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, number, say_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTERS = "46dDvqQhHrRi:p:t:T:l:3a:A:c:k:V:C:xXnNw:sSeE"
_USAGE = (
    "[ -463hHrRdDqQvxXnNsSeE ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] "
    "[ -t timeoutinfo ] [ -a cafile ] [ -A cadir ] [ -c certfile ] [ -k keyfile ] [ -C ciphers ] [ -w timeout ] "
    "host port program"
)
_FILES = {"a": "CAFILE", "A": "CADIR", "c": "CERTFILE", "k": "KEYFILE", "C": "CIPHERS"}
_IDLE = 3600
"""Seconds."""


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options, host, port and the program."""
    try:
        calling = parse(argv, _LETTERS)
        idle = [number("-w", value) for letter, value in calling.extra if letter == "w"] or [_IDLE]
    except WrongUse as error:
        return say_usage("sslclient", _USAGE, error)
    try:
        _become(calling, idle[-1])
    except Fatal as error:
        if calling.verbosity and str(error):
            print(f"sslclient: fatal: {error}", file=sys.stderr)
    return 111


def _become(calling: Calling, idle: int) -> None:
    flags = {letter.lower(): letter for letter, _value in calling.extra if letter in "xXnNsSeE3"}
    files = {_FILES[letter]: value for letter, value in calling.extra if letter in _FILES}
    secret = password() if "3" in flags else None
    verifies = flags.get("x") != "X"
    context = client_context(files, verifies, flags.get("n") != "N", secret)
    connection = call("sslclient", calling)
    ends = ends_of(connection.getsockname(), connection.getpeername(), calling.families.prefer_ipv6)
    if calling.verbosity > 1:
        print(f"sslclient: connected to {ends.remote_ip} port {ends.remote_port}", file=sys.stderr, flush=True)
    names = find_out(ends, calling.search)
    host = calling.host if calling.host not in ("", "0") else ends.remote_ip
    try:
        secure = shake_hands(connection, context, sum(calling.patience), False, host)
    except (OSError, ValueError) as error:
        raise Fatal(f"unable to SSL connect: {_reason(error)}") from None
    environment = dict(os.environb)
    told = describe(ends, names, "SSL")
    merge(environment, describe(ends, names) | told if flags.get("e") == "e" else told)
    if flags.get("s") == "s":
        merge(environment, variables(secure, False))
    _to_6_and_7(*translate(secure, idle))
    reason = execute(calling.program, environment)
    raise Fatal(f"unable to run {calling.program[0]}: {explain(reason)}")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return explain(error) if isinstance(error, OSError) else str(error)


def _to_6_and_7(reading: int, writing: int) -> None:
    """Either may be 6 or 7 already: copies above stay out of the way."""
    above = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (reading, writing)]
    os.dup2(above[0], 6)
    os.dup2(above[1], 7)

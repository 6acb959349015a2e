"""qmail-qmqpc: hand the message on descriptors 0 and 1 to a QMQP server (qmail-qmqpc(8), cr.yp.to/proto/qmqp.html).

The interface is qmail-queue's, exit codes included. Servers are those of control/qmqpservers, tried in order until
one can be connected to: an IPv4 address a line, or an IPv6 address, either with ``:port`` (IPv6 in brackets then).
"""

from __future__ import annotations

import ipaddress
import os
import socket

from ekiden.runtime.injection.door import (
    CONFIGURATION,
    CONNECT_TIMEOUT,
    CONNECTION_REFUSED,
    HOME_TROUBLE,
    LOST,
    OUT_OF_MEMORY,
    PERMANENT,
    READ_ERROR,
    REFUSED,
    NotQueued,
)
from ekiden.runtime.injection.envelope import read_envelope
from ekiden.settings.lines import control_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PORT = 628
CONNECT_SECONDS = 10.0
TALK_SECONDS = 60.0

_READ = 262_144
_VERDICTS = {b"K": 0, b"Z": REFUSED, b"D": PERMANENT}
_DIGITS = 10


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    if not os.path.isdir(home):
        return HOME_TROUBLE
    try:
        servers = control_lines(os.path.join(home, "control", "qmqpservers"))
        if servers is None:
            return CONFIGURATION
        request = _request()
    except NotQueued as error:
        return error.code
    except OSError:
        return CONFIGURATION
    except MemoryError:
        return OUT_OF_MEMORY
    return _hand_over(request, servers)


def _request() -> bytes:
    """The netstring of netstrings: content, sender, recipients."""
    try:
        content = b"".join(iter(lambda: os.read(0, _READ), b""))
    except OSError:
        raise NotQueued(READ_ERROR, "unable to read message (#4.3.0)") from None
    sender, recipients = read_envelope(1)
    return _netstring(b"".join(map(_netstring, (content, sender, *recipients))))


def _netstring(octets: bytes) -> bytes:
    return b"%d:%b," % (len(octets), octets)


def _hand_over(request: bytes, servers: Sequence[bytes]) -> int:
    last = CONFIGURATION
    for server in servers:
        place = _place(server.decode("ascii", "replace"))
        if place is None:
            continue
        try:
            connection = socket.create_connection(place, CONNECT_SECONDS)
        except TimeoutError:
            last = CONNECT_TIMEOUT
        except OSError:
            last = CONNECTION_REFUSED
        else:
            with connection:
                return _talk(connection, request)
    return last


def _place(server: str) -> tuple[str, int] | None:
    """Address and port of a server; None for what is no address."""
    host, text = server, ""
    if server.startswith("["):
        host, _bracket, rest = server[1:].partition("]")
        text = rest[1:]
    elif server.count(":") == 1:
        host, _colon, text = server.partition(":")
    try:
        port = int(text) if text.isdecimal() else PORT
        return (str(ipaddress.ip_address(host)), port) if port < 65536 else None
    except ValueError:
        return None


def _talk(connection: socket.socket, request: bytes) -> int:
    """Send the request; what the server's answer means."""
    connection.settimeout(TALK_SECONDS)
    answer = b""
    try:
        connection.sendall(request)
        while (code := verdict(answer)) is None:
            piece = connection.recv(1024)
            if not piece:
                return LOST
            answer += piece
    except OSError:
        return LOST
    return code


def verdict(answer: bytes) -> int | None:
    """The exit code that a server's answer, a netstring, means by its first letter; None while that is not there.

    Whoever says something else is no QMQP server, whatever letters he uses: the message counts as not taken.
    """
    length, _colon, text = answer.partition(b":")
    if answer and (not length.isdigit() or len(length) > _DIGITS):
        return LOST
    return _VERDICTS.get(text[:1], LOST) if text else None

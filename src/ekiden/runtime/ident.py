"""Who is at the other end of a TCP connection, as that host says (RFC 1413; tcp-environ(5), TCPREMOTEINFO)."""

from __future__ import annotations

import contextlib
import socket

_LONGEST = 1000
"""Octets of an answer that are read; RFC 1413 section 5 asks for lines of up to 1000 octets."""

PORT = 113


def remote_user(local: tuple[str, int], remote: tuple[str, int], timeout: float, port: int = PORT) -> bytes | None:
    """The user that owns the connection; None if that host says nothing sensible within ``timeout`` seconds.

    ``local`` and ``remote`` are the connection's addresses and ports. The answer is under the control of whoever
    runs the other host.
    """
    with contextlib.suppress(OSError):
        connection = socket.create_connection((remote[0], port), timeout, (local[0], 0))
        with connection:
            connection.settimeout(timeout)
            connection.sendall(b"%d , %d\r\n" % (remote[1], local[1]))
            return user_in(_line(connection))
    return None


def _line(connection: socket.socket) -> bytes:
    line = b""
    while b"\n" not in line and len(line) < _LONGEST:
        piece = connection.recv(_LONGEST - len(line))
        if not piece:
            break
        line += piece
    return line


def user_in(line: bytes) -> bytes | None:
    """``6193, 23 : USERID : UNIX : stjohns``: what follows the third colon, without white space."""
    if b"\n" not in line:
        return None
    fields = line.partition(b"\n")[0].translate(None, b" \t\r").split(b":", 3)
    return fields[3] if len(fields) == 4 and fields[1].upper() == b"USERID" else None

"""sslserver [OPTIONS] HOST PORT PROGRAM [ARG ...]: tcpserver for TLS (ucspi-ssl's sslserver.1, docs/sslserver.md).

Exit code 0 after SIGTERM; 100 for wrong use; 111 if it cannot listen or has no certificate.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.runtime.ucspi.certificates import password, server_context, variables
from ekiden.runtime.ucspi.connection import Ends, Names, describe, merge
from ekiden.runtime.ucspi.execute import execute
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.server import Dropped, Server
from ekiden.runtime.ucspi.serving import Serving, give_up_root, listen, parse, settle
from ekiden.runtime.ucspi.tunnel import shake_hands, translate
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, number, say_usage

_LETTERS = "46dDvqQhHrR1UXx:t:u:g:l:b:B:c:pPoO3aAeEsSiIT:w:"
_USAGE = (
    "[ -4613UXpPhHrRoOdDqQvaAeEsSiI ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] "
    "[ -b backlog ] [ -l localname ] [ -t timeout ] [ -T timeout ] [ -w timeout ] host port program"
)
_HANDSHAKE, _IDLE = 26, 3600
"""Seconds."""


class SslServer(Server):
    """Every connection is a child's, which shakes hands and becomes the program."""

    prefix = "SSL"

    def __init__(self, listener: socket.socket, serving: Serving, context: ssl.SSLContext) -> None:
        super().__init__("sslserver", listener, serving)
        self._context = context
        self._flags = {letter for letter in "eis" if _on(serving, letter)}
        self._handshake, self._idle = _seconds(serving, "T", _HANDSHAKE), _seconds(serving, "w", _IDLE)

    def greet(self, connection: socket.socket) -> None:
        """The banner waits for TLS."""

    def variables(self, ends: Ends, names: Names) -> dict[bytes, bytes | None]:
        """SSL variables, and with -e tcpserver's."""
        found = describe(ends, names, "SSL")
        return describe(ends, names) | found if "e" in self._flags else found

    def start(self, connection: socket.socket, environment: dict[bytes, bytes]) -> int:
        """Shake hands, and become the program, whose octets a child translates. Raises Dropped."""
        try:
            secure = shake_hands(connection, self._context, self._handshake, True)
            secure.sendall(self.serving.banner)
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else explain(error)
            raise Dropped(f"unable to accept SSL: {reason}") from None
        if "s" in self._flags:
            merge(environment, variables(secure, True))
        reading, writing = translate(secure, self._idle)
        os.dup2(reading, 0)
        os.dup2(writing, 1)
        raise Dropped(self.cannot_run(execute(self.serving.program, environment)))


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options, host, port and the program."""
    try:
        serving = parse(argv, _LETTERS)
        _seconds(serving, "T", 0), _seconds(serving, "w", 0)
    except WrongUse as error:
        return say_usage("sslserver", _USAGE, error)
    try:
        listener = listen(serving)
        early = _on(serving, "a")
        context = _context(serving, home) if early else None
        give_up_root(serving)
        context = context or _context(serving, home)
    except Fatal as error:
        if serving.verbosity:
            print(f"sslserver: fatal: {error}", file=sys.stderr)
        return 111
    settle(serving, listener)
    return SslServer(listener, serving, context).run()


def _context(serving: Serving, home: str) -> ssl.SSLContext:
    secret = password() if _on(serving, "3") else None
    control = Path(home, "control")
    environment = {"CERTFILE": str(control / "servercert.pem"), **os.environ}
    if "CERTFILE" not in os.environ and (control / "serverkey.pem").exists():
        environment.setdefault("KEYFILE", str(control / "serverkey.pem"))
    return server_context(environment, _on(serving, "i"), secret)


def _on(serving: Serving, letter: str) -> bool:
    """Whether the last of an option and its opposite, the capital letter, is the option."""
    return [found for found, _value in serving.extra if found.lower() == letter][-1:] == [letter]


def _seconds(serving: Serving, letter: str, default: int) -> int:
    values = [number(f"-{letter}", value) for found, value in serving.extra if found == letter]
    return values[-1] if values else default

"""The options that tcpclient and sslclient share (tcpclient.1), and the connection that they ask for."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ekiden.runtime.ucspi.command_line import places, shared, split
from ekiden.runtime.ucspi.connection import Search
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.place import Families, family_of, is_address, port_number, socket_address
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, number

if TYPE_CHECKING:
    from collections.abc import Sequence

LETTERS = "46dDvqQhHrRi:p:t:T:l:I:"

_AT_ONCE = 0.001
"""Seconds to wait when no time is given: nobody far away answers within it."""


class Calling(NamedTuple):
    """What the command line says. ``patience``: seconds for the first and the second try of an address.

    ``extra`` holds the options that only one of the programs knows, in order.
    """

    host: str
    port: str
    program: list[str]
    search: Search
    families: Families
    verbosity: int = 1
    delay: bool = False
    patience: tuple[int, int] = (2, 58)
    local_ip: str = ""
    local_port: int = 0
    interface: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


def parse(argv: Sequence[str], letters: str = LETTERS) -> Calling:
    """The command line without the program's name. Raises WrongUse."""
    found, rest = split(argv, letters)
    calling = Calling(rest[0], rest[1], rest[2:], Search(), Families())
    for letter, value in found:
        calling = _take(calling, letter, value)
    return calling


def _take(calling: Calling, letter: str, value: str) -> Calling:
    common, found = shared(letter, value)
    changes: dict[str, Any] = dict(common)
    if letter == "T":
        first, _plus, second = value.partition("+")
        changes["patience"] = (number("-T", first), number("-T", second or "0"))
    elif letter == "i":
        if not is_address(value):
            raise WrongUse
        changes["local_ip"] = value
    elif letter == "p":
        changes["local_port"] = number("-p", value)
    elif letter == "I":
        changes["interface"] = value
    elif not changes and not found:
        changes["extra"] = (*calling.extra, (letter, value))
    if found:
        changes["search"] = calling.search._replace(**found)
    return calling._replace(**changes)


def call(name: str, calling: Calling) -> socket.socket:
    """The connection; ``name`` tells failed attempts on standard error. Raises Fatal, empty if all is told."""
    port = port_number(calling.port)
    if port is None:
        raise Fatal(f"unable to figure out port number for {calling.port}")
    waiting = places(calling.host, calling.families, "127.0.0.1", "::1")
    first, second = calling.patience
    if len(waiting) == 1:
        first, second = first + second, 0
    for seconds, again in ((first, second > 0), (second, False)):
        slow = []
        for place in waiting:
            try:
                return _connect(calling, place, port, max(seconds, _AT_ONCE))
            except OSError as error:
                if again and isinstance(error, TimeoutError):
                    slow.append(place)
                elif calling.verbosity:
                    text = f"unable to connect to {place} port {port}: {explain(error)}"
                    print(f"{name}: {text}", file=sys.stderr, flush=True)
        waiting = slow
    raise Fatal


def _connect(calling: Calling, place: str, port: int, seconds: float) -> socket.socket:
    """A blocking connection. Raises OSError for this address, Fatal for all."""
    try:
        connection = socket.socket(family_of(place), socket.SOCK_STREAM)
    except OSError as error:
        raise Fatal(f"unable to create socket: {explain(error)}") from None
    try:
        _bind(calling, connection)
        connection.settimeout(seconds)
        connection.connect(socket_address(place, port, calling.interface))
        connection.settimeout(None)
        if not calling.delay:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _bind(calling: Calling, connection: socket.socket) -> None:
    if not calling.local_ip and not calling.local_port:
        return
    local = calling.local_ip or ("::" if connection.family == socket.AF_INET6 else "0.0.0.0")
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(socket_address(local, calling.local_port, calling.interface))
    except (OSError, OverflowError, TypeError, ValueError) as error:
        text = explain(error) if isinstance(error, OSError) else str(error)
        raise Fatal(f"unable to bind socket: {text}") from None

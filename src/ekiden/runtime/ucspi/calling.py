"""The options that tcpclient and sslclient share (tcpclient.1), and the connection that they ask for."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ekiden.runtime.options import BadOption, options
from ekiden.runtime.ucspi.connection import Search
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.place import Families, addresses, family_of, is_address, port_number, socket_address
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


_FLAGS: dict[str, dict[str, Any]] = {
    "v": {"verbosity": 2},
    "q": {"verbosity": 0},
    "Q": {"verbosity": 1},
    "d": {"delay": True},
    "D": {"delay": False},
    "4": {"families": Families(only_ipv4=True)},
    "6": {"families": Families(prefer_ipv6=True)},
}
_SEARCH: dict[str, dict[str, Any]] = {
    "h": {"remote_host": True},
    "H": {"remote_host": False},
    "r": {"remote_info": True},
    "R": {"remote_info": False},
}


def parse(argv: Sequence[str], letters: str = LETTERS) -> Calling:
    """The command line without the program's name. Raises WrongUse."""
    try:
        found, rest = options(argv, letters)
    except BadOption as error:
        raise WrongUse(str(error)) from None
    if len(rest) < 3:
        raise WrongUse
    calling = Calling(rest[0], rest[1], rest[2:], Search(), Families())
    for letter, value in found:
        calling = _take(calling, letter, value)
    return calling


def _take(calling: Calling, letter: str, value: str) -> Calling:
    changes: dict[str, Any] = dict(_FLAGS.get(letter, {}))
    found: dict[str, Any] = dict(_SEARCH.get(letter, {}))
    if letter == "T":
        first, _plus, second = value.partition("+")
        changes["patience"] = (number("-T", first), number("-T", second or "0"))
    elif letter == "t":
        found["info_timeout"] = float(number("-t", value))
    elif letter == "l":
        found["local_name"] = os.fsencode(value)
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
        raise Fatal(f"fatal: unable to figure out port number for {calling.port}")
    places = _places(calling)
    first, second = calling.patience
    if len(places) == 1:
        first, second = first + second, 0
    for seconds, again in ((first, second > 0), (second, False)):
        slow = []
        for place in places:
            try:
                return _connect(calling, place, port, max(seconds, _AT_ONCE))
            except OSError as error:
                if again and isinstance(error, TimeoutError):
                    slow.append(place)
                elif calling.verbosity:
                    text = f"unable to connect to {place} port {port}: {explain(error)}"
                    print(f"{name}: {text}", file=sys.stderr, flush=True)
        places = slow
    raise Fatal


def _places(calling: Calling) -> list[str]:
    host = calling.host
    if host in ("", "0"):
        return ["::1" if calling.families.prefer_ipv6 else "127.0.0.1"]
    try:
        found = addresses(host, calling.families)
    except OSError as error:
        raise Fatal(f"fatal: temporarily unable to figure out IP address for {host}: {explain(error)}") from None
    if not found:
        raise Fatal(f"fatal: no IP address for {host}")
    return found


def _connect(calling: Calling, place: str, port: int, seconds: float) -> socket.socket:
    """A blocking connection. Raises OSError for this address, Fatal for all."""
    try:
        connection = socket.socket(family_of(place), socket.SOCK_STREAM)
    except OSError as error:
        raise Fatal(f"fatal: unable to create socket: {explain(error)}") from None
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
        raise Fatal(f"fatal: unable to bind socket: {text}") from None

"""The options that tcpserver and sslserver share (tcpserver.1), and the listening socket that they ask for."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from ekiden.runtime.ucspi.command_line import places, shared, split
from ekiden.runtime.ucspi.connection import Search
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.place import Families, family_of, port_number, socket_address
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, number

LETTERS = "46dDvqQhHrR1UXx:t:u:g:l:b:B:c:I:pPoO"

BACKLOG = 1000
"""Connections that wait to be accepted; 20, as it used to be, makes clients wait seconds in a rush."""


class Serving(NamedTuple):
    """What the command line says. ``extra`` holds the options that only one of the programs knows, in order."""

    host: str
    port: str
    program: list[str]
    search: Search
    families: Families
    verbosity: int = 1
    limit: int = 40
    backlog: int = BACKLOG
    delay: bool = False
    keep_ip_options: bool = False
    rules: str | None = None
    without_rules: bool = False
    banner: bytes = b""
    uid: int = 0
    gid: int = 0
    print_port: bool = False
    interface: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


def parse(argv: Sequence[str], letters: str = LETTERS) -> Serving:
    """The command line without the program's name. Raises WrongUse."""
    found, rest = split(argv, letters)
    serving = Serving(rest[0], rest[1], rest[2:], Search(), Families())
    for letter, value in found:
        serving = _take(serving, letter, value)
    if serving.limit < 1:
        raise WrongUse("-c: at least one connection")
    return serving


_FLAGS: dict[str, dict[str, Any]] = {
    "o": {"keep_ip_options": True},
    "O": {"keep_ip_options": False},
    "X": {"without_rules": True},
    "1": {"print_port": True},
}
_SEARCH: dict[str, dict[str, Any]] = {"p": {"paranoid": True}, "P": {"paranoid": False}}
_NUMBERS = {"b": "backlog", "c": "limit", "u": "uid", "g": "gid"}


def _take(serving: Serving, letter: str, value: str) -> Serving:
    common, searched = shared(letter, value)
    changes: dict[str, Any] = {**common, **_FLAGS.get(letter, {})}
    found = {**searched, **_SEARCH.get(letter, {})}
    if letter in _NUMBERS:
        changes[_NUMBERS[letter]] = number(f"-{letter}", value)
    elif letter == "U":
        changes = {each.lower(): number(each, os.environ[each]) for each in ("UID", "GID") if each in os.environ}
    elif letter == "x":
        changes["rules"] = value
    elif letter == "B":
        changes["banner"] = os.fsencode(value)
    elif letter == "I" and value:
        changes["interface"] = value
    elif not changes and not found:
        changes["extra"] = (*serving.extra, (letter, value))
    if found:
        changes["search"] = serving.search._replace(**found)
    return serving._replace(**changes)


def listen(serving: Serving) -> socket.socket:
    """The bound and listening socket, not blocking. Raises Fatal."""
    port = port_number(serving.port)
    if port is None:
        raise Fatal(f"unable to figure out port number for {serving.port}")
    bound = _bind(serving, places(serving.host, serving.families, "0.0.0.0", "::")[0], port)
    try:
        bound.listen(serving.backlog)
    except OSError as error:
        raise Fatal(f"unable to listen: {explain(error)}") from None
    bound.setblocking(False)
    return bound


def _bind(serving: Serving, address: str, port: int) -> socket.socket:
    try:
        bound = socket.socket(family_of(address), socket.SOCK_STREAM)
    except OSError as error:
        raise Fatal(f"unable to create socket: {explain(error)}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(socket_address(address, port, serving.interface))
    except OSError as error:
        bound.close()
        raise Fatal(f"unable to bind: {explain(error)}") from None
    return bound


def settle(serving: Serving, listener: socket.socket) -> None:
    """Print the port if that is asked for, and be ready to serve."""
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


def give_up_root(serving: Serving) -> None:
    """Become the user and group asked for. Raises Fatal."""
    try:
        if serving.gid:
            os.setgroups([serving.gid])
            os.setgid(serving.gid)
    except OSError as error:
        raise Fatal(f"unable to set gid: {explain(error)}") from None
    try:
        if serving.uid:
            os.setuid(serving.uid)
    except OSError as error:
        raise Fatal(f"unable to set uid: {explain(error)}") from None

"""What the command lines of tcpserver, sslserver, tcpclient and sslclient share (tcpserver.1, tcpclient.1)."""

from __future__ import annotations

import os

from ekiden.runtime.classic.options import BadOption, options
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.place import Families, addresses
from ekiden.runtime.ucspi.wrong import Fatal, WrongUse, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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


def split(argv: Sequence[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The options, and what follows them: host, port and a program. Raises WrongUse."""
    try:
        found, rest = options(argv, letters)
    except BadOption as error:
        raise WrongUse(str(error)) from None
    if len(rest) < 3:
        raise WrongUse
    return found, rest


def shared(letter: str, value: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What an option that all know changes, and what of that is in the field ``search``. Raises WrongUse."""
    if letter == "t":
        return {}, {"info_timeout": float(number("-t", value))}
    if letter == "l":
        return {}, {"local_name": os.fsencode(value)}
    return _FLAGS.get(letter, {}), _SEARCH.get(letter, {})


def places(host: str, families: Families, ipv4: str, ipv6: str) -> list[str]:
    """The addresses of a host, in their order; ``ipv4`` or ``ipv6`` is meant without one. Raises Fatal."""
    if host in ("", "0"):
        return [ipv6 if families.prefer_ipv6 else ipv4]
    try:
        found = addresses(host, families)
    except OSError as error:
        raise Fatal(f"temporarily unable to figure out IP address for {host}: {explain(error)}") from None
    if not found:
        raise Fatal(f"no IP address for {host}")
    return found

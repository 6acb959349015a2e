"""control/listen: where the daemon listens, one listener a line.

A line is a service, a place and options: ``smtp 127.0.0.1:2525 name=value``. A place is ``*:PORT`` (every IPv4 and
IPv6 address), ``ADDRESS:PORT``, ``[IPV6]:PORT``, ``localhost:PORT`` (127.0.0.1) or the absolute path of a unix
socket.
"""

from __future__ import annotations

import re
import socket

from ekiden.settings.file import ControlFile, shown
from ekiden.settings.schema import SERVICES, Listener

_FORM = "a line is SERVICE ADDRESS:PORT, then name=value words"
OPTIONS = ("auth", "mode")
_PLACE = re.compile(r"(\*|localhost|[0-9.]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")
_OPTION = re.compile(r"([a-z][a-z0-9_-]*)=(.*)")
AUTH_SERVICES = ("smtp", "smtps", "submission")
AUTH = ("no", "yes", "required")
_MODE = re.compile(r"[0-7]{3}")


def parse_listener(line: str) -> Listener:
    """The listener that a line of control/listen describes; ValueError says what is wrong and what is allowed."""
    # A line of nothing but vertical tabs is not blank for qmail, and has no words.
    service, *rest = line.split() or [""]
    if service not in SERVICES:
        raise ValueError(f'"{service}" is no service; allowed are {", ".join(SERVICES)}')
    if not rest:
        raise ValueError(f"{service} has no address; write it as ADDRESS:PORT or as the path of a unix socket")
    host, port, path = _place(rest[0])
    options = _options(rest[1:])
    if "mode" in options and not (path and _MODE.fullmatch(options["mode"])):
        raise ValueError("mode is for unix sockets, and three octal digits, as in mode=660")
    if "auth" in options and not (service in AUTH_SERVICES and options["auth"] in AUTH):
        raise ValueError(f"auth is for {', '.join(AUTH_SERVICES)}, and one of {', '.join(AUTH)}")
    # The service was compared with SERVICES above, which the type is made of.
    return Listener(service=service, host=host, port=port, path=path, options=options)  # type: ignore[arg-type]


def parse_listeners(file: ControlFile) -> tuple[Listener, ...]:
    """Every listener in ``file``; what is wrong is noted there."""
    listeners: dict[str, Listener] = {}
    for number, entry in file.entries():
        try:
            listener = parse_listener(entry.decode("ascii"))
        except UnicodeDecodeError:
            file.refuse(number, f"{shown(entry)} is not ASCII", _FORM)
        except ValueError as error:
            file.refuse(number, str(error), _FORM)
        else:
            if listener.where in listeners:
                file.refuse(number, f"{listener.where} is taken by a line above", "give every listener its own place")
            listeners[listener.where] = listener
    return tuple(listeners.values())


def _place(text: str) -> tuple[str, int, str]:
    """Host, port and path; ValueError."""
    if text.startswith("/"):
        return "", 0, text
    match = _PLACE.fullmatch(text)
    if not match or not 1 <= int(match[2]) <= 65535 or not _is_host(match[1]):
        raise ValueError(f"{text} is no address; allowed are *:PORT, ADDRESS:PORT, [IPV6]:PORT or a socket's path")
    return ("127.0.0.1" if match[1] == "localhost" else match[1]), int(match[2]), ""


def _is_host(host: str) -> bool:
    if host in ("*", "localhost"):
        return True
    return is_address(host.strip("[]"), socket.AF_INET6 if host.startswith("[") else socket.AF_INET)


def is_address(text: str, *families: socket.AddressFamily) -> bool:
    """Whether ``text`` is an IP address of one of ``families``."""
    for family in families:
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        match = _OPTION.fullmatch(word)
        if not match:
            raise ValueError(f"{word} is no option; options are written as name=value")
        if match[1] not in OPTIONS:
            raise ValueError(f"the option {match[1]} is unknown; allowed are {', '.join(OPTIONS)}")
        if match[1] in options:
            raise ValueError(f"the option {match[1]} is given twice")
        options[match[1]] = match[2]
    return options

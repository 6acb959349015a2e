"""From a control file's octets to a setting's value, one function for each kind of file.

Each is given the description and the file, notes what is wrong in the file, and returns the value, or None where the
file says nothing and the setting is as without it. Unlike qmail, which takes the digits at the beginning and ignores
the rest, a number must be the whole line: ``1 hour`` as one second helps nobody.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from typing import TypeVar

from ekiden.settings.description import Kind, Setting
from ekiden.settings.file import ControlFile, shown
from ekiden.settings.listeners import is_address, parse_listeners

Value = TypeVar("Value")

_LMTP = re.compile(rb"lmtp:(?![0-9]*$)(/[!-~]{1,106}$)?", re.IGNORECASE)
_RELAY = re.compile(rb"(?:\[(?P<six>ipv6:)?(?P<address>[^\]\s]+)\]|[^\s:\[\]]+)(?::(?P<port>[0-9]*))?", re.IGNORECASE)
_RESOLVER = re.compile(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{1,5}))?|([0-9.]+):([0-9]{1,5})")
_ROUTED_LITERAL = re.compile(rb"(\[[^\]]*\]):(.*)", re.DOTALL)

_UNIX_LINES = "save the file with plain newlines as line ends"
_ANYWHERE = ("0.0.0.0", "::")


def parse_line(setting: Setting, file: ControlFile) -> bytes | None:
    """A file of one line, taken as it is."""
    value = file.line()
    if b"\0" in value or b"\r" in value:
        file.refuse(1, f"{shown(value)} holds a control character", _UNIX_LINES)
    return value


def parse_text(setting: Setting, file: ControlFile) -> bytes | None:
    """The whole file without the blanks at its end."""
    value = file.raw.rstrip(b" \t\n")
    if b"\0" in value or b"\r" in value:
        file.refuse(0, "holds a control character", _UNIX_LINES)
    return value


def parse_number(setting: Setting, file: ControlFile) -> int | None:
    """A number within the setting's bounds. An empty file says nothing, as for qmail."""
    text = file.line()
    if not text:
        return None
    if not (text.isdigit() and text.isascii()):
        file.refuse(1, f"{shown(text)} is not a number", f"allowed is {setting.allowed}")
        return None
    # More digits than any bound has: a number that int() would refuse to convert counts as too large.
    value = int(text) if len(text) < 30 else setting.high + 1
    if setting.clipped:
        value = min(value, setting.high)
    if not setting.low <= value <= setting.high:
        file.refuse(1, f"{text[:40].decode()} is out of bounds", f"allowed is {setting.allowed}")
        return None
    return value


def parse_flag(setting: Setting, file: ControlFile) -> bool | None:
    """1 or 0. An empty file says nothing."""
    return _one_of({b"1": True, b"0": False}, setting, file)


def parse_choice(setting: Setting, file: ControlFile) -> str | None:
    """One of the setting's words. An empty file says nothing."""
    return _one_of({word.encode(): word for word in setting.choices}, setting, file)


def parse_address(setting: Setting, file: ControlFile) -> str | None:
    """An IP address in text; empty for the unspecified ones, which leave the choice to the system."""
    text = file.line().decode("ascii", "replace")
    if not text or text in _ANYWHERE:
        return ""
    if not is_address(text, socket.AF_INET, socket.AF_INET6):
        file.refuse(1, f'"{text}" is not an IP address', "allowed is an IPv4 or IPv6 address")
    return text


def parse_set(setting: Setting, file: ControlFile) -> frozenset[bytes]:
    """Entries in lower case, because qmail compares them so."""
    return frozenset(_texts(file, bytes.lower))


def parse_list(setting: Setting, file: ControlFile) -> tuple[bytes, ...]:
    """Entries as they are, in order."""
    return tuple(_texts(file, bytes))


def parse_map(setting: Setting, file: ControlFile) -> dict[bytes, bytes]:
    """``key:value`` entries, keys in lower case; of several with one key the last counts, as for qmail."""
    values: dict[bytes, bytes] = {}
    for number, entry in file.entries():
        if b"\r" in entry:
            file.refuse(number, f"{shown(entry)} holds a carriage return", _UNIX_LINES)
        if b":" not in entry:
            file.refuse(number, f"{shown(entry)} has no colon", f"allowed is {setting.allowed}")
            continue
        key, value = _split(entry)
        if key in values and values[key] != value:
            file.warn(number, f"{shown(key)} was given another value above", "the last one counts; remove the others")
        values[key] = value
    return values


def parse_routes(setting: Setting, file: ControlFile) -> dict[bytes, bytes]:
    """control/smtproutes: a relay is empty (use the MX), a name, or an address in brackets, then perhaps a port."""
    for number, entry in file.entries():
        if b":" in entry and not is_relay(_split(entry)[1]):
            file.refuse(
                number,
                f"{shown(_split(entry)[1])} is no relay",
                "allowed is a host name or [ADDRESS], and :PORT after it, and lmtp: or lmtp:/PATH before it;"
                " or nothing for the domain's MX",
            )
    return parse_map(setting, file)


def is_relay(value: bytes) -> bool:
    """Whether ``value`` can stand after the domain and its colon in control/smtproutes (qmail-remote(8))."""
    lmtp = _LMTP.match(value)
    if lmtp:
        value = value[lmtp.end() :]
        if lmtp[1]:
            return True
        if not value:
            return False
    if not value:
        return True
    match = _RELAY.fullmatch(value)
    if match is None or (match["port"] and not (len(match["port"]) <= 5 and 1 <= int(match["port"]) <= 65535)):
        return False
    families = (socket.AF_INET6,) if match["six"] else (socket.AF_INET, socket.AF_INET6)
    return match["address"] is None or is_address(match["address"].decode("ascii", "replace"), *families)


def parse_networks(setting: Setting, file: ControlFile) -> tuple[str, ...]:
    """Networks as ``ADDRESS/BITS``, or single addresses."""
    import ipaddress  # slow to import, and hardly any home has such a file

    networks: list[str] = []
    for number, entry in file.entries():
        try:
            networks.append(str(ipaddress.ip_network(entry.decode("ascii"))))
        except ValueError as error:
            file.refuse(number, str(error), "allowed is ADDRESS or ADDRESS/BITS")
    return tuple(networks)


def parse_resolvers(setting: Setting, file: ControlFile) -> tuple[str, ...]:
    """DNS servers, as they are written."""
    for number, entry in file.entries():
        if not _is_resolver(entry.decode("ascii", "replace")):
            file.refuse(number, f"{shown(entry)} is no DNS server", "allowed is ADDRESS, ADDRESS:PORT or [V6]:PORT")
    return tuple(entry.decode("ascii", "replace") for _, entry in file.entries())


def _is_resolver(text: str) -> bool:
    match = _RESOLVER.fullmatch(text)
    if not match:
        return is_address(text, socket.AF_INET, socket.AF_INET6)
    address, port = (match[1], match[2]) if match[1] else (match[3], match[4])
    return is_address(address, socket.AF_INET, socket.AF_INET6) and 1 <= int(port or 53) <= 65535


def _one_of(words: Mapping[bytes, Value], setting: Setting, file: ControlFile) -> Value | None:
    text = file.line()
    if text and text not in words:
        file.refuse(1, f"{shown(text)} is not known here", f"allowed is {setting.allowed}")
    return words.get(text)


def _texts(file: ControlFile, convert: Callable[[bytes], bytes]) -> list[bytes]:
    for number, entry in file.entries():
        if b"\r" in entry:
            file.refuse(number, f"{shown(entry)} holds a carriage return", _UNIX_LINES)
        elif entry[:1] in (b" ", b"\t"):
            file.warn(number, f"{shown(entry)} begins with a blank", "remove it: it is part of the entry")
        elif b" #" in entry or b"\t#" in entry:
            file.warn(number, f"{shown(entry)} is one entry", "give the remark a line of its own")
    return [convert(entry) for _, entry in file.entries()]


def _split(entry: bytes) -> tuple[bytes, bytes]:
    """At the first colon, or after an address literal, whose colons (IPv6) do not count."""
    match = _ROUTED_LITERAL.fullmatch(entry)
    key, value = (match[1], match[2]) if match else entry.split(b":", 1)
    return key.lower(), value


BY_NAME: Mapping[str, Callable[[Setting, ControlFile], object]] = {
    "smtproutes": parse_routes,
    "proxyclients": parse_networks,
    "resolvers": parse_resolvers,
}
BY_KIND: Mapping[Kind, Callable[[Setting, ControlFile], object]] = {
    Kind.LINE: parse_line,
    Kind.TEXT: parse_text,
    Kind.NUMBER: parse_number,
    Kind.FLAG: parse_flag,
    Kind.CHOICE: parse_choice,
    Kind.ADDRESS: parse_address,
    Kind.SET: parse_set,
    Kind.LIST: parse_list,
    Kind.MAP: parse_map,
    Kind.LISTENERS: lambda setting, file: parse_listeners(file),
}


def parse(name: str, setting: Setting, file: ControlFile) -> object:
    """The value of the setting ``name`` in ``file``, or None if the file says nothing; problems are noted there."""
    return BY_NAME.get(name, BY_KIND[setting.kind])(setting, file)

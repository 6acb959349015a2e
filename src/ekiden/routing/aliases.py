"""sendmail's alias files and :include: lists as fastforward's databases have them (newaliases(1), newinclude(1)).

The octets are those that fastforward 0.51's programs write, so that either side's files serve the other.
"""

from __future__ import annotations

from ekiden.base.mailbox import Malformed
from ekiden.routing.address_entries import ADDRESS, FILE, INCLUDE, PROGRAM, Entry, entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS_OCTETS = 800
"""Longest recipient address (setforward(1))."""

DISCARD = b"/dev/null"
"""The one file that an alias may name: whoever has nothing else gets no mail."""


class BadAlias(ValueError):
    """A line that cannot be meant; ``line`` is its number from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class Domains:
    """The domains that complete addresses (control/defaulthost, defaultdomain, plusdomain; qmail-header(5))."""

    def __init__(self, host: bytes, domain: bytes, plus: bytes) -> None:
        self._host = host
        self._domain = domain
        self._plus = plus

    def complete(self, address: bytes) -> bytes:
        """An address with host and full domain; one without a host ends with ``@``."""
        if address.endswith(b"@"):
            address += self._host
        if address.endswith(b"+"):
            address = address[:-1] + b"." + self._plus
        if b"." not in address.rpartition(b"@")[2]:
            address += b"." + self._domain
        return address


def alias_records(text: bytes, domains: Domains) -> Iterator[tuple[bytes, bytes]]:
    """The database's records for an alias file's text; raises BadAlias."""
    for number, line in instructions(text):
        try:
            yield from _records(entries(line), domains)
        except ValueError as error:
            raise BadAlias(number, str(error)) from None


def instructions(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The file's instructions without comments, each with the number of the line that it begins at.

    An instruction, and a comment, goes on in lines that begin with space or tab or are empty.
    """
    start, parts = 1, [b""]
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line:
            continue
        if line[:1] in b" \t":
            parts.append(line)
            continue
        yield from _instruction(start, parts)
        start, parts = number, [line]
    yield from _instruction(start, parts)


def _instruction(start: int, parts: list[bytes]) -> Iterator[tuple[int, bytes]]:
    line = b"\n".join(parts)
    if line.strip() and not line.startswith(b"#"):
        yield start, line


def _records(found: list[Entry], domains: Domains) -> Iterator[tuple[bytes, bytes]]:
    """The alias is the leftmost address; whatever is right of it is where its mail goes."""
    if not found or found[-1].kind != ADDRESS:
        raise Malformed("there is no alias in front")
    *recipients, alias = found
    if not recipients:
        raise Malformed("the alias has no recipients")
    target = _target(alias)
    commands = b"".join(_command(entry, domains) for entry in _as_fastforward_orders(recipients))
    if target.startswith(b"owner-"):
        yield b"?" + target[6:].lower(), domains.complete(target)
    yield b":" + target.lower(), commands


def _as_fastforward_orders(recipients: list[Entry]) -> Iterator[Entry]:
    """From the last to the first, but an address after the programs and lists that stand before it."""
    waiting: list[Entry] = []
    for entry in recipients:
        if entry.kind == ADDRESS:
            yield from waiting
            waiting = [entry]
        else:
            yield entry
    yield from waiting


def _target(entry: Entry) -> bytes:
    """An alias as it stands in a key: ``user@host``, ``@host`` or ``user@``."""
    if not entry.text:
        raise Malformed("an address is empty")
    return entry.text if entry.has_host else entry.text + b"@"


def _command(entry: Entry, domains: Domains) -> bytes:
    if entry.kind == INCLUDE:
        return included(entry.text) + b".bin\0"
    if entry.kind == PROGRAM:
        return b"!" + _without(b"\0", entry.text) + b"\0"
    if entry.kind == FILE:
        if entry.text == DISCARD:
            return b""
        raise Malformed(f"delivery to the file {_shown(entry.text)} is not supported; a .qmail file can do it")
    return b"&" + address(_target(entry), domains) + b"\0"


def included(name: bytes) -> bytes:
    """The name of a further list, as it stands in the database."""
    if not name:
        raise Malformed(":include: names no file")
    return _without(b"\0\n", name if name[:1] in b"./" else b"./" + name)


def address(target: bytes, domains: Domains) -> bytes:
    """A complete recipient address."""
    complete = _without(b"\0\n", domains.complete(target))
    if len(complete) > ADDRESS_OCTETS:
        raise Malformed(f"an address has more than {ADDRESS_OCTETS} octets")
    if complete[-1:] in b" \t":
        raise Malformed("an address ends with a space")
    return complete


def list_commands(text: bytes, domains: Domains) -> Iterator[bytes]:
    """The commands of the binary list for an :include: file's text, each ended by NUL; raises BadAlias."""
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.startswith(b"#"):
            continue
        try:
            for entry in entries(line):
                yield from _list_command(entry, domains)
        except ValueError as error:
            raise BadAlias(number, str(error)) from None


def _list_command(entry: Entry, domains: Domains) -> Iterator[bytes]:
    if entry.kind == INCLUDE:
        yield included(entry.text) + b"\0"
    elif entry.kind != ADDRESS:
        raise Malformed(f"delivery to the {entry.kind} {_shown(entry.text)} is not allowed in an :include: file")
    elif entry.text:
        yield b"&" + address(_target(entry), domains) + b"\0"


def _without(octets: bytes, text: bytes) -> bytes:
    if any(octet in text for octet in octets):
        raise Malformed(f"{_shown(text)} holds a NUL or a line end")
    return text


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")

"""fastforward's database: what it holds, how setforward's language writes it, how a recipient is expanded by it.

Keys are ``:target`` (commands, each ended by NUL) and ``?target`` (the owner's address); a target is ``user@host``,
``@host`` or ``user@``, in small letters. A command is ``&address``, ``|command``, ``!command`` (which gets the
Return-Path and Delivered-To lines in front) or the name of a binary list, which begins with a dot or slash.
Source: setforward(1), fastforward(1), setmaillist(1).
"""

from __future__ import annotations

import re

from ekiden.base.sender import UNANSWERED
from ekiden.routing.aliases import ADDRESS_OCTETS, BadAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TOKEN = re.compile(
    rb"\\(?P<escaped>.)|(?P<none>#[^\n]*|[ \t\n]+|\\\Z)|(?P<mark>[:,;])|(?P<text>[^\\# \t\n:,;]+)", re.DOTALL
)
_TO_ESCAPE = re.compile(rb"[\x00-\x20,:;\\#]")


class BadDatabase(ValueError):
    """What stands in a database or binary list is no command."""


def table_records(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The database's records for a table in setforward's language; raises BadAlias."""
    table = _Table()
    line = 1
    for match in _TOKEN.finditer(text):
        try:
            yield from table.take(match)
        except ValueError as error:
            raise BadAlias(line, str(error)) from None
        line += match[0].count(b"\n")
    if table.unfinished:
        raise BadAlias(line, "the final instruction must end with a semicolon")


class _Table:
    """Where the reader of a table is: in a target, or in one of its commands."""

    def __init__(self) -> None:
        self._target = bytearray()
        self._command = bytearray()
        self._commands = bytearray()
        self._in_commands = False

    @property
    def unfinished(self) -> bool:
        return self._in_commands or bool(self._target)

    def take(self, match: re.Match[bytes]) -> Iterator[tuple[bytes, bytes]]:
        if match["mark"] is not None:
            yield from self._mark(match["mark"])
            return
        text = match["text"] or match["escaped"] or b""
        if b"\0" in text:
            raise ValueError("NUL is not allowed")
        if self._in_commands:
            self._command += text
        else:
            self._target += text

    def _mark(self, mark: bytes) -> Iterator[tuple[bytes, bytes]]:
        if mark == b":":
            if self._in_commands:
                raise ValueError("a second colon is not allowed; put a backslash in front of it")
            self._in_commands = True
            return
        if not self._in_commands:
            raise ValueError("commas and semicolons are not allowed before the colon")
        yield from self._end_command()
        if mark == b";":
            if self._commands:
                yield b":" + self._target.lower(), bytes(self._commands)
            self._target.clear()
            self._commands.clear()
            self._in_commands = False

    def _end_command(self) -> Iterator[tuple[bytes, bytes]]:
        command = bytes(self._command)
        self._command.clear()
        if command.startswith(b"?"):
            yield b"?" + self._target.lower(), command[1:]
        elif command:
            self._commands += as_command(command) + b"\0"


def as_command(text: bytes) -> bytes:
    """A command as people write it, where an address may stand without its ``&``; ValueError for a long address."""
    if text[:1] in b"|!./":
        return text
    if len(text) > ADDRESS_OCTETS:
        raise ValueError(f"addresses over {ADDRESS_OCTETS} bytes are not permitted")
    return text if text.startswith(b"&") else b"&" + text


def as_instruction(key: bytes, value: bytes) -> bytes:
    """A record as setforward reads it, lines ended by LF; BadDatabase if it is none."""
    target = _escape(key[1:]) + b":"
    if key[:1] == b"?":
        return target + b" ?" + _escape(value) + b";\n"
    if key[:1] != b":":
        raise BadDatabase("a key begins with neither ? nor :")
    return target + b"\n" + b"".join(b", %b\n" % _escape(each) for each in commands(value)) + b";\n"


def _escape(text: bytes) -> bytes:
    return _TO_ESCAPE.sub(rb"\\\g<0>", text)


def commands(value: bytes) -> list[bytes]:
    """The commands in a record or a binary list; BadDatabase if there is anything else."""
    *found, rest = value.split(b"\0")
    if rest or not all(each and each[0] in b"&|!./" for each in found):
        raise BadDatabase("it holds something that is no command")
    return found


class Expansion:
    """Where a message goes. After ``expand``: ``sender``, ``recipients`` and ``programs`` in order.

    ``get`` asks the database; ``read_list`` gives the octets of a binary list. What they raise goes through.
    """

    def __init__(self, get: Callable[[bytes], bytes | None], read_list: Callable[[bytes], bytes]) -> None:
        self._get = get
        self._read_list = read_list
        self.sender = b""
        self.recipients: list[bytes] = []
        self.programs: list[bytes] = []
        """Each with its bar or exclamation point."""

    def expand(self, recipient: bytes, sender: bytes) -> bool:
        """Expand an incoming address, for which wildcards count; False if the database does not know it."""
        self.sender = sender
        if sender not in UNANSWERED:
            self.sender = self._first(b"?", recipient) or sender
        value = self._first(b":", recipient)
        if value is None:
            return False
        done: set[bytes] = set()
        todo = self._sorted(commands(value))
        while todo:
            command = todo.pop()
            if command not in done:
                done.add(command)
                todo += self._sorted(self._inner(command))
        # Taken from the end, so that a list's members stay together: now they are in order again.
        self.recipients.reverse()
        return True

    def _first(self, mark: bytes, address: bytes) -> bytes | None:
        """The value of the address itself, of its host or of its user, whichever there is first."""
        user, at, host = address.rpartition(b"@")
        for target in (address, at + host, user + at) if at else (address,):
            value = self._get(mark + target.lower())
            if value is not None:
                return value
        return None

    def _inner(self, command: bytes) -> list[bytes]:
        """What stands behind a list's name, or behind an address that is an alias without an owner of its own."""
        if not command.startswith(b"&"):
            return commands(self._read_list(command))
        address = command[1:]
        value = None if self._get(b"?" + address.lower()) is not None else self._get(b":" + address.lower())
        if value is None:
            self.recipients.append(address)
            return []
        return commands(value)

    def _sorted(self, found: list[bytes]) -> list[bytes]:
        """Keep the programs, and give the others."""
        self.programs += [command for command in found if command[0] in b"|!"]
        return [command for command in found if command[0] not in b"|!"]

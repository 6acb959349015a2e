"""The text form of tcp rules, compiled to the records that tcprules(1) writes.

A rule is one line, ``address:allow`` or ``address:deny``, then any number of ``,NAME="value"``, the quote being any
octet that is not in the value. Lines that begin with ``#`` are comments. A line without a colon says nothing, as in
tcprules, but is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from ekiden.policy.rulekeys import EXACT, Key, is_ipv6, rule_keys

Record = tuple[bytes, bytes]

_INSTRUCTIONS = re.compile(rb":(?=allow|deny)")


class RuleError(ValueError):
    """A line that is no rule: ``number`` counts from 1, ``line`` is the line without the blanks at its end."""

    def __init__(self, number: int, line: bytes, reason: str) -> None:
        super().__init__(f"line {number}: {line.decode('utf-8', 'backslashreplace')}: {reason}")
        self.number = number
        self.line = line
        self.reason = reason


class Rule(msgspec.Struct, frozen=True):
    """One line: the keys that it gives instructions for, and these as compiled. No keys: the line says nothing."""

    number: int
    keys: list[Key]
    instructions: bytes


def parse_rules(lines: Iterable[bytes]) -> Iterator[Rule]:
    """The rules in a text. Raises RuleError for the first line that is none."""
    for number, line in enumerate(lines, 1):
        line = line.rstrip(b" \t\n")
        if not line or line.startswith(b"#"):
            continue
        try:
            rule = _parse_rule(number, line)
        except ValueError as error:
            raise RuleError(number, line, str(error)) from None
        yield rule


def compile_rules(rules: Iterable[Rule]) -> list[Record]:
    """The records in the order of the text.

    Of rules with one key, tcpserver follows the first; so it is here, but a key that came out of a wider network
    yields to one that came out of a narrower network or was written as it is.
    """
    records: list[Record] = []
    places: dict[bytes, int] = {}
    widths: dict[bytes, int] = {}
    for rule in rules:
        for key, width in rule.keys:
            if width > widths.get(key, width):
                records[places[key]] = (key, rule.instructions)
                widths[key] = width
            elif key not in places or width == EXACT:
                places.setdefault(key, len(records))
                widths.setdefault(key, width)
                records.append((key, rule.instructions))
    return records


def _parse_rule(number: int, line: bytes) -> Rule:
    colon = line.find(b":")
    if colon < 0:
        return Rule(number, [], b"")
    if not line.startswith((b"allow", b"deny"), colon + 1):
        # The colons of an IPv6 address; everything else that gets here is an error in tcprules as well.
        match = _INSTRUCTIONS.search(line)
        if match is None or not is_ipv6(line[: match.start()]):
            raise ValueError("after the address and a colon there must be allow or deny")
        colon = match.start()
    instructions = _parse_instructions(line[colon + 1 :])
    return Rule(number, rule_keys(line[:colon]), instructions)


def _parse_instructions(text: bytes) -> bytes:
    """``D`` and NUL for deny, then ``+NAME=value`` and NUL for each variable."""
    if text.startswith(b"deny"):
        compiled, position = [b"D\0"], 4
    else:
        compiled, position = [], 5
    while position < len(text):
        if text[position : position + 1] != b",":
            raise ValueError(f"after {text[:position].decode('utf-8', 'backslashreplace')} there must be a comma")
        equals = text.find(b"=", position)
        if equals < 0 or equals + 1 == len(text):
            raise ValueError('a variable is NAME="value"')
        quote = text[equals + 1 : equals + 2]
        end = text.find(quote, equals + 2)
        if end < 0:
            raise ValueError("a value must end with the quote that it begins with")
        compiled.append(b"+" + text[position + 1 : equals + 1] + text[equals + 2 : end] + b"\0")
        position = end + 1
    return b"".join(compiled)

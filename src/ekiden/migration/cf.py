"""sendmail.cf, for hosts that have no sendmail.mc any more: its C, F, D, K and O lines (op.me, section 5).

The rules (R and S lines) are not read: what was changed there by hand cannot be carried over.
"""

from __future__ import annotations

import re

from ekiden.migration.facts import Facts
from ekiden.migration.finding import Place, Said

_MAPS = {"virtuser": "virtusertable", "generics": "genericstable"}
_NAMED = re.compile(r"\{(\w+)\}|(.)")
_OLD_OPTIONS = {"M": "", "T": "Timeout.queuereturn", "A": "AliasFile", "h": "MaxHopCount", "p": "PrivacyOptions"}
"""One-letter options of before version 8.7."""


def read_cf(text: str, file: str) -> Facts:
    """What a sendmail.cf says."""
    facts = Facts()
    for number, line in enumerate(text.split("\n"), 1):
        place = Place(file, number)
        letter, rest = line[:1], line[1:].rstrip()
        if letter in ("C", "F", "D"):
            match = _NAMED.match(rest)
            if match:
                _definition(facts, letter, match[1] or match[2], Said(rest[match.end() :].strip(), place))
        elif letter == "K":
            name, _, kind = rest.partition(" ")
            table = _MAPS.get(name, name)
            if table in ("access", "virtusertable", "mailertable", "genericstable"):
                facts.tables[table] = Said(kind.strip(), place)
        elif letter == "O":
            _option(facts, rest, place)
    return facts


def _definition(facts: Facts, letter: str, name: str, said: Said) -> None:
    if letter == "D":
        if said.value and (attribute := _MACROS.get(name)):
            setattr(facts, attribute, said)
    elif name in _CLASSES:
        members, files = _CLASSES[name]
        if letter == "F":
            getattr(facts, files).append(said)
        else:
            getattr(facts, members).extend(Said(word.lower(), said.place) for word in said.value.split())


_MACROS = {"j": "name", "S": "smart_host", "M": "masquerade", "H": "hub", "L": "unknown_users"}
_CLASSES = {
    "w": ("hosts", "host_files"),
    "R": ("relays", "relay_files"),
    "VirtHost": ("virtual", "virtual_files"),
    "G": ("generics", "generics_files"),
}


def _option(facts: Facts, rest: str, place: Place) -> None:
    if rest.startswith(" "):
        name, _, value = rest.strip().partition("=")
    else:
        name, value = _OLD_OPTIONS.get(rest[:1], ""), rest[1:]
        value = value.partition("/")[0] if name == "Timeout.queuereturn" else value
    said = Said(value.strip(), place)
    if name.strip() == "DaemonPortOptions":
        facts.listeners.append(said)
    elif name:
        facts.options[name.strip()] = said

"""qmail-pw2u: a passwd file on descriptor 0 as assignments for users/assign (qmail-pw2u.8).

The files include, exclude, mailnames, subusers and append in users/ change the rules. Exit codes: 100 usage, 111
anything that cannot be read, and a passwd file without an alias user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ekiden.runtime.classic.options import BadOption, options
from ekiden.settings.lines import entries, load

ALIAS = b"alias"
_UID_DIGITS = 10


class Stop(Exception):
    """Nothing can be made of the input; the text says why."""


class Rules:
    """What the options say."""

    def __init__(self) -> None:
        self.dash = b"-"
        self.delimiter = b"-"
        self.homes = "o"
        """``o``: no home, no user; ``h``: every user must have one; ``H``: homes are not looked at."""
        self.capitals = False


def main(argv: Sequence[str], home: str) -> int:
    """Takes the options -/ -o -h -H -u -U -C and -c CHAR."""
    try:
        rules = rules_of(argv)
    except BadOption as error:
        print(f"qmail-pw2u: {error}", file=sys.stderr)
        return 100
    try:
        for line in assignments(sys.stdin.buffer.read().split(b"\n"), Path(home, "users"), rules):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except (Stop, OSError) as error:
        print(f"qmail-pw2u: fatal: {error}", file=sys.stderr)
        return 111
    return 0


def rules_of(argv: Sequence[str]) -> Rules:
    """What the options say; BadOption if they are not understood."""
    rules = Rules()
    for letter, value in options(argv, "/ohHuUc:C")[0]:
        if letter in "cC":
            rules.delimiter = os.fsencode(value)[:1]
        elif letter in "ohH":
            rules.homes = letter
        elif letter in "uU":
            rules.capitals = letter == "u"
        else:
            rules.dash = b"-/"
    return rules


def assignments(accounts: Sequence[bytes], users: Path, rules: Rules) -> Iterator[bytes]:
    """The lines of users/assign."""
    include, exclude = _lines(users / "include"), frozenset(_lines(users / "exclude") or ())
    mailnames = dict(line.split(b":", 1) for line in _lines(users / "mailnames") or () if b":" in line)
    known: dict[bytes, bytes] = {}
    for line in accounts:
        fields = line.split(b":")
        if b"\0" in line or len(fields) < 7 or not _wanted(fields, rules):
            continue
        name = fields[0]
        if (include is not None and name.lower() not in include) or name.lower() in exclude:
            continue
        known[name.lower()] = where = b":%b:%b:%b:%b:" % (name, fields[2], fields[3], fields[5])
        if name == ALIAS:
            yield b"+%b%b::\n" % (where, rules.dash)
        for mailname in mailnames.get(name.lower(), name).split(b":"):
            yield from _user(mailname, where, rules)
    if ALIAS not in known:
        raise Stop("unable to find alias user")
    for line in (load(users / "subusers") or b"").split(b"\n"):
        yield from _subuser(line, known, rules)
    yield (load(users / "append") or b"") + b".\n"


def _lines(path: Path) -> Sequence[bytes] | None:
    """A file's entries, lower-case up to the first colon; None if there is no such file."""
    raw = load(path)
    if raw is None:
        return None
    parts = (line.partition(b":") for _number, line in entries(raw))
    return [name.lower() + colon + rest for name, colon, rest in parts]


def _wanted(fields: Sequence[bytes], rules: Rules) -> bool:
    name, uid, home = fields[0], fields[2], fields[5]
    if not uid.isdigit() or len(uid) > _UID_DIGITS or not int(uid) or (not rules.capitals and name != name.lower()):
        return False
    if rules.homes == "H":
        return True
    try:
        return os.stat(home).st_uid == int(uid)
    except FileNotFoundError:
        if rules.homes == "h":
            raise Stop(f"unable to stat {os.fsdecode(home)}") from None
        return False


def _user(mailname: bytes, where: bytes, rules: Rules) -> Iterator[bytes]:
    if not mailname:
        return
    yield b"=%b%b::\n" % (mailname, where)
    if rules.delimiter:
        yield b"+%b%b%b%b::\n" % (mailname, rules.delimiter, where, rules.dash)


def _subuser(line: bytes, known: Mapping[bytes, bytes], rules: Rules) -> Iterator[bytes]:
    """``sub:user:pre:`` gives sub to the user's .qmail-pre."""
    fields = line.split(b":")
    if len(fields) < 2:
        return
    where = known.get(fields[1].lower())
    if where is None and len(fields) > 2:
        raise Stop(f"unable to find {os.fsdecode(fields[1])} user for subuser")
    if where is None or len(fields) < 4:
        return
    yield b"=%b%b%b:%b:\n" % (fields[0], where, rules.dash, fields[2])
    if rules.delimiter:
        yield b"+%b%b%b%b:%b-:\n" % (fields[0], rules.delimiter, where, rules.dash, fields[2])

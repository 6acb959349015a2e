"""sendmail's aliases(5) as control/aliases, which newaliases compiles for fastforward, and as .qmail files.

Names are completed with a host whose mail is for its users, so that a masquerade does not send them away. What
fastforward's database cannot say, delivery to a file, becomes a .qmail file in alias/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ekiden.base.mailbox import quote
from ekiden.migration.accounts import Account
from ekiden.migration.finding import Place, Report
from ekiden.migration.plan import Plan, dot_qmail
from ekiden.migration.quoting import unquoted
from ekiden.migration.virtual import bounce
from ekiden.routing.address_entries import ADDRESS, FILE, INCLUDE, PROGRAM, Entry, entries
from ekiden.routing.aliases import DISCARD, Domains, alias_records, instructions

USE = "|fastforward -d ../control/aliases.cdb"
USE_OR_PASS = "|fastforward -pd ../control/aliases.cdb"
"""Lines of .qmail files: mail goes where control/aliases says; if that is nowhere, to nobody or to the next line."""


class Aliases:
    """The aliases of one file. ``is_account`` asks the system; ``home`` is looked at for files in the way."""

    def __init__(self, plan: Plan, report: Report, home: Path, is_account: Account) -> None:
        self._plan = plan
        self._report = report
        self._home = home
        self._is_account = is_account
        self._seen: set[bytes] = set()
        self.included: list[str] = []
        """:include: files, which have to be compiled."""
        self.assigned: list[str] = []
        """Accounts whose mail goes where an alias of their name says."""

    def read(self, path: Path) -> None:
        """Put a file's aliases into the plan; OSError."""
        for number, line in instructions(path.read_bytes()):
            place = Place(str(path), number)
            try:
                *members, alias = entries(quoted_commands(line))
                if alias.kind != ADDRESS or not alias.text or not members:
                    raise ValueError("there is no alias with recipients")
                self._alias(alias, members[::-1], place)
            except ValueError as error:
                self._report.left(
                    place, f"{_text(line.split(b':')[0].strip())}: {error}", "write it as newaliases(1) does"
                )

    def _alias(self, alias: Entry, members: list[Entry], place: Place) -> None:
        name = _text(alias.text)
        if alias.text.lower() in self._seen:
            self._report.left(place, f"{name} is listed twice; the first one counts")
            return
        self._seen.add(alias.text.lower())
        if any(_is_error(member) for member in members):
            self._refused(name, members, place)
        elif any(member.kind == FILE and member.text != DISCARD for member in members):
            self._to_file(name, members, place)
        else:
            wanted = ", ".join(_member(member, self._plan.local) for member in members)
            line = f"{_text(quote(alias.text))}: {wanted}"
            self._check(line)
            self._plan.add("control/aliases", line)
            self._report.carried(place, f"{name}: control/aliases")
            self._tell_of(members, place)
        self._make_way(name, members, place)

    def _check(self, line: str) -> None:
        """ValueError if newaliases would not take the line."""
        local = self._plan.local.encode()
        text = line.encode("utf-8", "surrogateescape") + b"\n"
        if not list(alias_records(text, Domains(local, local, local))):
            raise ValueError("it would be a comment")

    def _refused(self, name: str, members: list[Entry], place: Place) -> None:
        if len(members) > 1:
            raise ValueError("error: beside other recipients")
        self._plan.add(dot_qmail(name), bounce(_text(members[0].text)))
        self._report.carried(place, f"{name}: {dot_qmail(name)}")

    def _to_file(self, name: str, members: list[Entry], place: Place) -> None:
        if any(member.kind == INCLUDE for member in members):
            raise ValueError("a file beside a list; make two aliases of it")
        path = dot_qmail(name)
        self._plan.add(path, *(_command(member, self._plan.local) for member in members))
        self._report.changed(
            place, f"{name}: {path}; the file is written as the user alias", "let alias own the file"
        )

    def _tell_of(self, members: list[Entry], place: Place) -> None:
        for member in members:
            if member.kind == PROGRAM:
                text = f"|{_text(member.text)} runs as the user alias"
                self._report.changed(place, text, "see that alias may do what it does")
            elif member.kind == INCLUDE:
                name = _text(member.text)
                self.included.append(name)
                self._report.changed(place, f"{name} is read when it is compiled", f"newinclude {name} after changes")

    def _leads_to(self, member: Entry, name: str) -> bool:
        """Whether a recipient is a local name."""
        local, _, host = (
            _text(member.text).lower().rpartition("@") if member.has_host else (_text(member.text), "", "")
        )
        return local.lower() == name.lower() and host in ("", *self._plan.files.get("control/locals", []))

    def _make_way(self, name: str, members: list[Entry], place: Place) -> None:
        """What stands before the database in the way of an alias: an account, an empty .qmail file of config's."""
        if self._is_account(name):
            if any(self._leads_to(member, name) for member in members):
                text = f"{name} is an account, which comes before aliases, and gets a copy itself"
                self._report.left(place, text, f"put ./Maildir/ or ./Mailbox and the others into ~{name}/.qmail")
                return
            self.assigned.append(name.lower())
            self._report.carried(place, f"{name} is an account: users/assign has the alias come first")
        path = dot_qmail(name)
        if path not in self._plan.files and (self._home / path).exists():
            self._plan.add(path, USE)


def quoted_commands(line: bytes) -> bytes:
    """An instruction with the quotes that sendmail does not ask for around ``|command arguments`` and ``error:``."""
    name, colon, rest = line.partition(b":")
    return name + colon + b",".join(map(_quoted, _split(rest)))


def _quoted(member: bytes) -> bytes:
    bare = member.strip()
    if bare[:1] == b"|" and bare[1:2] != b'"':
        return b' "%b"' % bare.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    if bare.lower().startswith(b"error:"):
        return b' "%b"' % bare
    return member


def _split(rest: bytes) -> Iterator[bytes]:
    """At the commas that are not in quotes."""
    start = 0
    for place in unquoted(rest, 0x2C):
        yield rest[start:place]
        start = place + 1
    yield rest[start:]


def _is_error(member: Entry) -> bool:
    return member.kind == ADDRESS and member.text.lower().startswith(b"error:")


def _member(member: Entry, local: str) -> str:
    """A recipient as newaliases reads it."""
    text = _text(member.text)
    if member.kind == PROGRAM:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"|{escaped}"'
    if member.kind == INCLUDE:
        return f":include:{text}"
    return text if member.kind == FILE else _address(member, local)


def _command(member: Entry, local: str) -> str:
    """A recipient as a line of a .qmail file."""
    text = _text(member.text)
    if member.kind == PROGRAM:
        return f"|{text}"
    return text if member.kind == FILE else f"&{_text(member.text) if member.has_host else f'{text}@{local}'}"


def _address(member: Entry, local: str) -> str:
    return _text(quote(member.text if member.has_host else member.text + b"@" + local.encode()))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")

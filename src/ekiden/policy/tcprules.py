"""tcp rules: what is done with a connection, by where it comes from (tcprules(1), tcpserver(1)).

The rules of a listener are the text ``control/tcp.NAME``, or, if there is no such text, the compiled
``control/tcp.NAME.cdb``. Without either, and if no rule matches, a connection is allowed and no variable is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from ekiden.policy.rulekeys import EXACT, ipv6_width, probe_keys
from ekiden.policy.ruletext import Record, Rule, RuleError, compile_rules, parse_rules
from ekiden.settings.problem import Problem, SettingsError
from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError

FILES = ("tcp.smtp", "tcp.lmtp", "tcp.qmtp", "tcp.qmqp", "tcp.pop3")
"""The names under control/ of all rules that are in use, as texts."""

VARIABLES = frozenset({b"RELAYCLIENT", b"DATABYTES", b"TCPREMOTEHOST", b"TCPREMOTEINFO"})
"""Those of a rule that count."""

_Signature = tuple[int, int, int]
"""Modification time in nanoseconds, size in octets, inode: another file has another one."""

_UNREADABLE: _Signature = (0, 0, -1)
_VANISHED: tuple[Path, _Signature] = (Path(), (0, 0, -2))


class Verdict(msgspec.Struct, frozen=True):
    """What to do with a connection. ``environment``: variables for the server. ``rule``: the key that matched."""

    allow: bool = True
    environment: dict[bytes, bytes] = {}
    rule: bytes | None = None


def decode_instructions(rule: bytes, instructions: bytes) -> Verdict:
    """A compiled record's meaning. Octets that mean nothing are skipped, as tcpserver skips them."""
    allow, environment = True, {}
    for instruction in instructions.split(b"\0"):
        if instruction.startswith(b"D"):
            allow = False
        elif instruction.startswith(b"+"):
            name, equals, value = instruction[1:].partition(b"=")
            if name and equals:
                environment[name] = value
    return Verdict(allow, environment, rule)


def find_rule(
    get: Callable[[bytes], bytes | None], address: bytes, host: bytes | None = None, info: bytes | None = None
) -> Record | None:
    """The rule for a connection in any table: the key that matched and its instructions, None if none does."""
    for key in probe_keys(address, host, info):
        instructions = get(key)
        if instructions is not None:
            return key, instructions
    return None


class Rules:
    """Rules in memory. Of several records with one key the first counts."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._verdicts: dict[bytes, Verdict] = {}
        for key, instructions in records:
            if key not in self._verdicts:
                self._verdicts[key] = decode_instructions(key, instructions)
        widths = {width for width in map(ipv6_width, self._verdicts) if width is not None}
        self._ipv6_widths = sorted(widths, reverse=True)

    def lookup(self, address: str, host: bytes | None = None, info: bytes | None = None) -> Verdict:
        """The verdict on a connection from an IP address; ``host`` is its name in any case, ``info`` RFC 1413's."""
        verdicts = self._verdicts
        host = host.lower() if host is not None else None
        for key in probe_keys(address.encode("utf-8", "surrogateescape"), host, info, self._ipv6_widths):
            if key in verdicts:
                return verdicts[key]
        return _UNMATCHED


_UNMATCHED = Verdict()
_CLOSED = Rules([(b"", b"D\0")])


class RulesFile:
    """The rules at ``path`` (the text; ``.cdb`` is appended for the compiled form), read again when they change.

    ``problem`` says why rules that are now in the file are not in force; the ones before them are, or at first,
    when there are none before them, every connection is denied.
    """

    def __init__(self, path: Path) -> None:
        self._text = path
        self._name = f"control/{path.name}"
        self._cdb = path.with_name(path.name + ".cdb")
        self._seen: tuple[Path, _Signature] | None = None
        self._rules: Rules | None = None
        self.problem: str | None = None
        self._told: str | None = None
        self.current()

    def current(self) -> Rules:
        """The rules in force. Looks whether the file is another one; never fails."""
        seen = self._look()
        if seen is None and self._seen is not None:
            # An editor may be about to put the new file there.
            self._seen = _VANISHED
            self.problem = f"{self._name} has disappeared; the rules from before apply until a reload"
        elif seen != self._seen or self._rules is None:
            self._seen = seen
            self._read(seen[0] if seen is not None else None)
        return self._rules if self._rules is not None else _CLOSED

    def news(self) -> str:
        """The problem, for whoever tells of it once; "" if there is none, or the same as at the last time."""
        told, self._told = self._told, self.problem
        return self.problem if self.problem and self.problem != told else ""

    def _look(self) -> tuple[Path, _Signature] | None:
        for path in (self._text, self._cdb):
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return path, _UNREADABLE
            return path, (status.st_mtime_ns, status.st_size, status.st_ino)
        return None

    def _read(self, path: Path | None) -> None:
        try:
            self._rules = Rules(_load(path, path == self._cdb) if path is not None else ())
            self.problem = None
        except (RuleError, TableError) as error:
            self.problem = f"{self._name}: {error}" if isinstance(error, RuleError) else self._named(str(error))
        except OSError as error:
            self.problem = self._named(f"unable to read {path}: {error.strerror}")

    def _named(self, text: str) -> str:
        """A text with the file's name as its administrator knows it; a role may see it from elsewhere."""
        return text.replace(str(self._text), self._name)


def _load(path: Path, compiled: bool) -> list[Record]:
    if not compiled:
        return compile_rules(parse_rules(path.read_bytes().split(b"\n")))
    with Cdb(path) as table:
        return list(table.items())


def in_use(control: Path) -> list[Path]:
    """The files of rules under ``control`` that there are: of a text and its compiled form the text alone."""
    both = ((control / name, control / f"{name}.cdb") for name in FILES)
    return [text if text.exists() else compiled for text, compiled in both if text.exists() or compiled.exists()]


def problems(path: Path) -> list[Problem]:
    """What is wrong in rules under control/, a text or a ``.cdb``, or does nothing."""
    shown = f"control/{path.name}"
    found: list[Problem] = []
    try:
        for rule in _compiled(path) if path.suffix == ".cdb" else parse_rules(path.read_bytes().split(b"\n")):
            if doubt := _doubt(rule):
                message, remedy = doubt
                found.append(Problem(file=shown, line=rule.number, message=message, remedy=remedy, fatal=False))
    except RuleError as error:
        text = error.line.decode("utf-8", "backslashreplace")
        found.append(Problem(file=shown, line=error.number, message=f"{text} is no rule", remedy=error.reason))
    except TableError as error:
        found.append(Problem(file=shown, message=str(error), remedy="compile the rules again"))
    except OSError as error:
        found.append(Problem(file=shown, message=f"cannot be read: {error.strerror}", remedy="see its permissions"))
    return found


def _compiled(path: Path) -> Iterator[Rule]:
    """A compiled file's rules. Raises TableError, OSError."""
    return (Rule(0, [(key, EXACT)], instructions) for key, instructions in _load(path, True))


def require_sound(control: Path) -> None:
    """``SettingsError`` if there are rules under ``control`` that whoever starts now could not use."""
    found = [problem for path in in_use(control) for problem in problems(path)]
    if fatal := [problem for problem in found if problem.fatal]:
        raise SettingsError(fatal)


def doubts(control: Path) -> list[str]:
    """Which rules under ``control`` do nothing here, for the log."""
    return [problem.without_kind for path in in_use(control) for problem in problems(path) if not problem.fatal]


def _doubt(rule: Rule) -> tuple[str, str] | None:
    """Why a rule does nothing here, and the remedy."""
    if not rule.keys:
        return "names no address", "write ADDRESS:allow or ADDRESS:deny, or # before a remark"
    shown = "" if rule.number else f"{rule.keys[0][0].decode('utf-8', 'backslashreplace')} "
    if any(b"=" in key or b"@" in key for key, _width in rule.keys):
        return (
            f"{shown}never applies, because nobody looks up clients' names here",
            "write addresses, or use tcpserver",
        )
    if unknown := decode_instructions(b"", rule.instructions).environment.keys() - VARIABLES:
        names = b", ".join(sorted(unknown)).decode("utf-8", "backslashreplace")
        return (
            f"{shown}sets {names}, which nobody reads here",
            "use tcpserver for programs that read it, or remove it",
        )
    return None

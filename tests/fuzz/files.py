"""Targets that read what administrators and users wrote: control files, aliases, rules, databases."""

from __future__ import annotations

import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path

import msgspec
from tests.fuzz.target import Target

from ekiden.delivery import dotqmail, forward_file
from ekiden.policy.ruletext import Rule, RuleError, compile_rules, parse_rules
from ekiden.policy.tcprules import Rules, find_rule
from ekiden.programs import qmail_newu
from ekiden.programs.qmail_newu import BadFormat
from ekiden.routing.aliases import BadAlias, Domains, alias_records, list_commands
from ekiden.routing.forwarding import BadDatabase, Expansion, as_instruction, commands, table_records
from ekiden.routing.users import UsersUnavailable, assigned
from ekiden.settings.catalogue import CATALOGUE
from ekiden.settings.description import Kind
from ekiden.settings.file import ControlFile
from ekiden.settings.schema import Settings
from ekiden.settings.values import parse
from ekiden.tables.cdb import Cdb, CdbWriter
from ekiden.tables.table import TableError

_DOMAINS = Domains(b"host", b"example.org", b"plus.example")
_SETTINGS = sorted(name for name, setting in CATALOGUE.items() if setting.kind is not Kind.FILE)


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    # In memory where there is such a place: nothing here is about disks, and thousands of inputs make files.
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="ekiden-fuzz", dir=memory if memory.is_dir() else None)


def place() -> Path:
    """A directory for the files of this process, removed with it."""
    return Path(_directory().name)


def _control(data: bytes) -> None:
    """The first octet chooses the file. What is taken can be a setting, and goes between processes as it is."""
    name = _SETTINGS[data[0] % len(_SETTINGS)] if data else "me"
    file = ControlFile(name, data[1:])
    value = parse(name, CATALOGUE[name], file)
    for problem in file.problems:
        assert str(problem).isprintable() or not str(problem).isascii()
    if value is None or any(problem.fatal for problem in file.problems):
        return
    settings = Settings(**{"me": b"x", name: value})  # type: ignore[arg-type]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=Settings) == settings


def _dot_qmail(data: bytes) -> None:
    for instruction in dotqmail.parse(data, True):
        assert instruction.kind in (dotqmail.FORWARD, dotqmail.REFUSE), "a file that may only forward does more"
    for instruction in dotqmail.parse(data, False):
        assert b"\n" not in instruction.text and b"\0" not in instruction.text


def _aliases(data: bytes) -> None:
    """An alias file, an :include: file and a .forward; what newaliases makes of it fastforward can read."""
    try:
        for key, value in alias_records(data, _DOMAINS):
            _check_record(key, value)
    except BadAlias as error:
        assert 0 < error.line <= data.count(b"\n") + 1
    try:
        for command in list_commands(data, _DOMAINS):
            assert len(commands(command)) == 1
    except BadAlias:
        pass
    path = place() / "forward"
    path.write_bytes(data)
    try:
        for instruction in forward_file.read(bytes(path), b"u", b"example.org", _DOMAINS):
            assert b"\0" not in instruction.text
    except forward_file.Unusable:
        pass


def _aliases_alone(data: bytes) -> None:
    for read in (alias_records, list_commands):
        try:
            list(read(data, _DOMAINS))
        except BadAlias:
            continue


def _check_record(key: bytes, value: bytes) -> None:
    if key[:1] == b":":
        commands(value)
    read = list(table_records(as_instruction(key, value)))
    assert read == ([(key, value)] if value or key[:1] == b"?" else []), "it reads differently"


def _fastforward(data: bytes) -> None:
    """A table in setforward's language; every target in it is expanded, whatever leads in circles."""
    try:
        table = dict(table_records(data))
    except BadAlias:
        table = {b":a@b": data, b"?a@b": data}
    for key, value in table.items():
        _check_record(key, value) if data not in table.values() else as_instruction(key, value)
    for key in table:
        expansion = Expansion(table.get, lambda name: table.get(b":" + name, b""))
        if expansion.expand(key[1:], b"s@t"):
            assert all(program[:1] in b"|!" for program in expansion.programs)


def _tcprules(data: bytes) -> None:
    """Rules of text; what tcpserver finds in the compiled file is what our servers do."""
    rules = list(parse_rules(BytesIO(data)))
    assert all(isinstance(rule, Rule) for rule in rules)
    records = compile_rules(rules)
    first: dict[bytes, bytes] = {}
    for key, instructions in records:
        first.setdefault(key, instructions)
    compiled = Rules(records)
    for address in ("192.0.2.1", "10.1.2.3", "2001:db8::1", "::ffff:192.0.2.1", "x"):
        for host, info in ((None, None), (b"a.example", None), (b"", b"u")):
            found = find_rule(first.get, address.encode(), host, info)
            assert compiled.lookup(address, host, info).rule == (found[0] if found else None)


def _cdb(data: bytes) -> None:
    """A file that may be damaged; and a database of the same octets gives back what was put in."""
    path = place() / "cdb"
    words = data.split(b",")
    records = list(zip(words[::2], words[1::2], strict=False))
    with path.open("wb") as file:
        writer = CdbWriter(file)
        for key, value in records:
            writer.add(key, value)
        writer.finish()
    written = path.read_bytes()
    table = Cdb(path)
    assert list(table.items()) == records
    for key, _value in records:
        assert list(table.values(key)) == [value for other, value in records if other == key]
    table.close()
    for damaged in (data, written[: len(written) - len(data)], data + written[len(data) :]):
        path.write_bytes(damaged)
        _read_damaged(path, [key for key, _value in records] or [b"key"])


def _cdb_alone(data: bytes) -> None:
    """Many records of one key are much work in this format, whoever writes it; reading is looked at."""
    path = place() / "cdb"
    for octets in (data, b"\0\x08\0\0\xff\x0f\0\0" * 256 + data):
        path.write_bytes(octets)
        _read_damaged(path, [b"key"])


def _read_damaged(path: Path, keys: list[bytes]) -> None:
    try:
        table = Cdb(path)
    except TableError:
        return
    for read in (*(lambda key=key: list(table.values(key)) for key in keys[:4]), lambda: list(table.items())):
        try:
            read()
        except TableError:
            continue
    table.close()


def _users(data: bytes) -> None:
    """users/assign; whoever is assigned there is found."""
    table: dict[bytes, bytes] = {}
    for key, value in qmail_newu.records(BytesIO(data)):
        table.setdefault(key, value)
    for line in data.splitlines():
        # No address has a NUL, which ends keys.
        local = line[1:].partition(b":")[0].replace(b"\0", b"")
        try:
            user = assigned(local, table.get)
        except UsersUnavailable:
            continue
        assert user is not None or line[:1] not in (b"=", b"+") or b"!" + local.lower() not in table
        assert user is None or user.uid >= 0


_CONTROL = (
    *(bytes((at,)) for at in range(len(_SETTINGS))),
    *(b"a.example\n", b"#", b"\0", b":", b"[1.2.3.4]:25", b"lmtp:/x", b"smtp *:25 mode=660\n", b"smtp [::]:25\n"),
    *(b"10.0.0.0/8", b"1", b"0", b"9" * 30, b" ", b"\t", b"\r", b"\n", b"x:y\n", b"off", b"plain", b"/", b"[::1]:53"),
    *("²".encode(), b"\x0b", b"lmtp x/y a=b a=b\n"),
)
_DOT_QMAIL = (b"|x", b"./M/\n", b"/m\n", b"&a@b\n", b"a@b\n", b"#", b"+list\n", b"+", b"\n", b"\0", b" ", b"\t", b".")
_ALIASES = (
    *(b"a: b, c@d\n", b"owner-a: e\n", b'x: "|prog y"\n'),
    *(b"z: :include:/l\n", b"f: /dev/null\n", b"g: h <i@j> (k)\n"),
    *(b"#", b"\n", b" ", b"\t", b",", b":", b"@", b'"', b"\\", b"<", b">"),
    *(b"(", b")", b";", b".", b"+", b"|", b"/", b"\0"),
    *(b"u\n", b"\\u, v@w\n", b'|"a b"\n', b":include:", b"u@example.org\n", b"@host: a\n", b"[", b"]", b"\xe9"),
)
_TABLE = (
    *(b"a@b: c@d, |x, !y, ./l;\n", b"a@b: ?o@p;", b"@b: &a@b;", b"c@: a@b;", b"\\", b"\\:", b"#", b"\n", b":", b","),
    *(b";", b"?", b"|", b"!", b"/", b".", b"&", b"\0", b" ", b"&a@b\0", b"/l\0"),
)
_RULES = (
    *(b"192.0.2.1:allow\n", b"10.:deny\n", b'10.1-3.:allow,A="b"\n'),
    *(b"192.0.2.0/26:deny\n", b"2001:db8::/32:allow\n"),
    *(b"=a.example:allow\n", b"=.example:deny\n", b"u@192.0.2.1:allow\n"),
    *(b":allow,RELAYCLIENT=\"\",B='c'\n", b"#", b"\n"),
    *(b"::1:deny\n", b"::ffff:192.0.2.0/120:deny\n", b"-", b"/", b":", b"="),
    *(b",", b"@", b".", b'"', b"\0", b" ", b"%", b"/0"),
)
_CDB = (b"a,b", b",", b"\0", b"\xff" * 4, b"\0\x08\0\0\0\0\0\0" * 256, b"a,b,a,c,,d", b"\0\x08\0\0\1\0\0\0")
_ASSIGN = (
    *(b"=a:u:1:2:/h:::\n", b"+a-:u:1:2:/h:-::\n", b"+:alias:7:8:/a:-::\n"),
    *(b".\n", b":", b"=", b"+", b"\n", b"\0", b"A"),
    *(b"=b:u:x:2:/h:::\n", b"-1", b"\xb2", b"9" * 30),
)

TARGETS = (
    Target("control", _control, (), _CONTROL, (b"", bytes((_SETTINGS.index("listen"),)) + b"smtp *:25")),
    Target("dot-qmail", _dot_qmail, (), _DOT_QMAIL),
    Target("aliases", _aliases, (), _ALIASES, (b"", b"a: ", b"a: b <"), _aliases_alone),
    Target("fastforward", _fastforward, (BadDatabase,), _TABLE, (b"", b"a@b: ", b"a@b: |")),
    Target("tcprules", _tcprules, (RuleError,), _RULES, (b"", b"1.2.3.4:allow", b"::1:allow", b":allow,A=")),
    Target("cdb", _cdb, (), _CDB, (b"",), _cdb_alone),
    Target("users", _users, (BadFormat,), _ASSIGN, (b"", b"=", b"=a:b:1:2:")),
)

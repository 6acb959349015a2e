"""Targets between parts of the system: addresses as door and router take them, what goes into mailboxes and the log
and is read again, frames in a stream, and files that only damage or an administrator changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from io import BytesIO
from typing import Any

import msgspec
from tests.fuzz.files import place
from tests.fuzz.target import Target

from ekiden.base import dates
from ekiden.base.outcome import Outcome
from ekiden.base.reply import Refused
from ekiden.delivery.content import Content, PlainFile, WireContent, WireFile
from ekiden.delivery.letter import Letter
from ekiden.delivery.mbox import entry
from ekiden.mailstore.spool_scan import read_range, scan
from ekiden.policy.acceptance import Acceptance, ClientPolicy
from ekiden.programs import qmail_newu, qmail_pw2u
from ekiden.queue import rebuild
from ekiden.queue.pages import PageFile
from ekiden.queue.salvage import Today, salvage
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.wal import read_log
from ekiden.routing.rewrite import domain_of
from ekiden.routing.route import Router
from ekiden.runtime.frames import DeliveryAnswer
from ekiden.runtime.host_table import HostTable
from ekiden.runtime.ident import user_in
from ekiden.runtime.injection.limits import Limits
from ekiden.runtime.injection.link import InjectLink
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.logreader import events
from ekiden.runtime.syslog import FOLD, fold
from ekiden.settings.schema import Settings
from ekiden.tables.text import HostList
from ekiden.wire.lines import mend_newlines

_ADDRESS = 1002
"""Octets of the longest address that any door takes."""
_ACCEPTED = frozenset({b"a.example", b".b.example", b"hack.example", b"mx.example"})
_SETTINGS = Settings(
    me=b"mx.example",
    envnoathost=b"mx.example",
    localiphost=b"mx.example",
    rcpthosts=_ACCEPTED,
    percenthack=frozenset({b"hack.example"}),
    locals=frozenset({b"hack.example", b"mx.example"}),
    virtualdomains={b"v.b.example": b"v", b"x@w.b.example": b"w", b".u.b.example": b"u"},
    smtproutes={b".a.example": b"[192.0.2.1]", b"far.example": b"relay.example:26"},
    badmailfrom=frozenset({b"s@bad.example", b"@bad.example"}),
    badrcptto=frozenset({b"no@a.example"}),
)
_STRANGER = ClientPolicy()


def _own() -> tuple[str, ...]:
    return ("192.0.2.9",)


@cache
def _door_and_router() -> tuple[Acceptance, Router]:
    return Acceptance(_SETTINGS, _own), Router(_SETTINGS)


def _recipient(data: bytes) -> None:
    """A stranger's recipient: what is accepted goes to no host but those in rcpthosts, whoever came before."""
    address = data.replace(b"\0", b"")[:_ADDRESS]
    used, router = _door_and_router()
    taken = _taken(Acceptance(_SETTINGS, _own), address)
    assert _taken(used, address) == _taken(used, address) == taken, "it depends on who came before"
    used.sender(address) if b"bad.example" not in address.lower() else None
    if taken is None:
        return
    decision = router.route(taken)
    assert router.route(taken) == decision == Router(_SETTINGS).route(taken)
    if decision.channel == "remote":
        assert HostList(_ACCEPTED).matches(domain_of(decision.recipient)), "an open relay"
    local = decision.recipient[: -len(domain_of(decision.recipient)) - 1]
    assert b"@" not in local, "a further host"
    assert router.next_hop(decision.recipient)


def _taken(door: Acceptance, address: bytes) -> bytes | None:
    try:
        return door.recipient(address, _STRANGER)
    except Refused as refused:
        assert refused.reply.code // 100 in (4, 5)
        return None


def _mailbox_content(data: bytes) -> None:
    """A content from each of its three sources is the same, and comes back out of an mbox as it was."""
    wire = mend_newlines(data)
    plain = wire.replace(b"\r\n", b"\n")
    sources: list[Content] = [WireContent(wire), WireFile(_file(wire)), PlainFile(_file(plain))]
    field = (data.partition(b"\n")[0].replace(b"\r", b"") or b"x") + b"\n"
    try:
        assert len({b"".join(source.chunks()) for source in sources} | {plain}) == 1
        assert len({b"".join(source.wire()) for source in sources} | {wire}) == 1
        assert len({source.header_has(field) for source in sources}) == 1
    finally:
        for source in sources[:2]:
            source.close()
    pieces = [plain[at : at + 1] for at in range(len(plain))]
    written = b"".join(entry([plain]))
    assert written == b"".join(entry(pieces)), "pieces are quoted in another way"
    _check_letter(data, plain, written)


def _check_letter(data: bytes, plain: bytes, written: bytes) -> None:
    recipient = data.replace(b"\0", b"")[:_ADDRESS]
    letter = Letter(b"u", b"/h", recipient, b"", b"", b"x.example", recipient, b"", WireContent(b""), 1_700_000_000.0)
    for line in (letter.delivered_to, letter.return_path, letter.from_line):
        assert line.count(b"\n") == 1 and line.endswith(b"\n"), "a line that nobody wrote"
    assert all(b"\0" not in name + value for name, value in letter.environment(b"", recipient).items())
    path = place() / "entry"
    path.write_bytes(2 * (letter.from_line + written))
    with path.open("rb") as file:
        entries = scan(file.fileno(), path.stat().st_size)
        assert len(entries) == 2, "a message that nobody sent"
        for one in entries:
            content = b"".join(read_range(file.fileno(), one.content, one.stop))
            unquoted = content.replace(b"\n>", b"\n").removeprefix(b">")
            assert unquoted.replace(b">", b"").rstrip(b"\n") == plain.replace(b">", b"").rstrip(b"\n")


def _mailbox_content_alone(data: bytes) -> None:
    for _piece in entry([data]):
        continue
    WireContent(data).header_has(b"x\n")


def _file(octets: bytes) -> int:
    descriptor = os.memfd_create("fuzz")
    os.write(descriptor, octets)
    return descriptor


_LAST_MOMENT = 253_402_300_799
"""The end of the year 9999."""


def _dates(data: bytes) -> None:
    """Any moment is written as others read it."""
    when = int.from_bytes(data[:6], "big") % _LAST_MOMENT
    for written in (dates.utc_date(when), dates.local_date(when)):
        assert parsedate_to_datetime(written.decode()).replace(tzinfo=_zone(written)).timestamp() == when
    stamp = dates.mbox_date(when, utc=True).decode()
    assert time.strptime(stamp, "%a %b %d %H:%M:%S %Y")[:6] == time.gmtime(when)[:6]
    assert len(dates.mbox_date(when)) == 24 and len(dates.compact_date(when)) == 14
    assert len(dates.syslog_date(when)) == 15


def _zone(written: bytes) -> timezone:
    sign, hours, minutes = written[-5:-4], int(written[-4:-2]), int(written[-2:])
    return timezone((-1 if sign == b"-" else 1) * timedelta(hours=hours, minutes=minutes))


def _log_lines(data: bytes) -> None:
    """Strangers' octets in the log, in both forms: every event is read back as the one that it was."""
    reading, writing = os.pipe()
    said = data.decode("utf-8", "surrogateescape")
    with open(reading, "rb") as lines:
        for form in ("qmail", "json"):
            log = Log("queue", writing, form)
            log.new_message(7)
            log.info(7, len(data), data[:_ADDRESS], 1, 2)
            log.starting(3, 7, "remote", data[:_ADDRESS])
            log.event("alert", f"alert: {said[:_ADDRESS]}", text_=said[:_ADDRESS])
            log.result(3, Outcome(len(data) % 3, "5.1.1", said[:_ADDRESS], said[:99], said[:99]))
            log.end(7)
        os.close(writing)
        text = lines.read()
    directory = place() / "written"
    directory.mkdir(exist_ok=True)
    (directory / "ekiden.log").write_bytes(text)
    words = ("success", "deferral", "failure")
    expected = ["new", "info", "starting", words[len(data) % 3], "end"]
    found = list(events(directory))
    assert [each["event"] for each in found] == 2 * expected, "an event that did not happen"
    assert {each["message"] for each in found} == {7}
    assert text.count(b"\n") == 12 and all(octet >= 32 or octet == 10 for octet in text)
    folded = b"".join(piece[1:] for piece in fold(b"", data))
    assert folded == data and all(len(piece) <= FOLD + 1 for piece in fold(b"", data))


class _Loop:
    """As much of an event loop as a link needs to be read from."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments: None

    def time(self) -> float:
        return 0.0


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return _Loop()  # type: ignore[return-value]


@cache
def _limits() -> Limits:
    return Limits(_loop(), Settings(me=b"x", inlinebytes=1000))


def _link(data: bytes) -> None:
    """Frames of a stream are the same in any pieces; whoever says something else is left."""
    data = data[:50_000]
    single = [data[at : at + 1] for at in range(min(len(data), 2000))]
    for heard in (_heard_by_a_role, _heard_by_the_door):
        assert heard([data] if data else []) == heard([*single, *filter(None, [data[2000:]])])


def _link_alone(data: bytes) -> None:
    # As much at once as a socket takes.
    _heard_by_a_role(data[at : at + 65_536] for at in range(0, len(data), 65_536))


def _heard_by_a_role(pieces: Iterable[bytes]) -> tuple[list[object], bool]:
    return _heard(
        pieces,
        lambda connection, frames, closed: Link(
            _loop(),
            connection,
            msgspec.msgpack.Decoder(DeliveryAnswer),
            lambda frame, _: frames.append(frame),
            closed,
        ),
    )


def _heard_by_the_door(pieces: Iterable[bytes]) -> tuple[list[object], bool]:
    return _heard(
        pieces,
        lambda connection, frames, closed: InjectLink(
            _loop(), connection, _limits(), set(), lambda frame, _: frames.append(frame), closed
        ),
    )


def _heard(
    pieces: Iterable[bytes], make: Callable[[socket.socket, list[object], Callable[[str], None]], Link[Any]]
) -> tuple[list[object], bool]:
    """What came out, and whether the connection was ended for it."""
    frames: list[object] = []
    ours, theirs = socket.socketpair()
    link = make(theirs, frames, lambda _reason: None)
    with ours:
        for piece in pieces:
            if link.closed:
                break
            ours.sendall(piece)
            link._readable()
        ended = link.closed
        link.close()
    return frames, ended


@cache
def _store() -> tuple[bytes, Today]:
    """A queue's file with a few messages, and what a new one is like."""
    directory = place() / "store"
    directory.mkdir()
    SQLiteStore(directory).close()
    new = rebuild.today(directory)
    with contextlib.closing(sqlite3.connect(directory / "queue.sqlite")) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    return (directory / "queue.sqlite").read_bytes(), new


def _damaged_queue(data: bytes) -> None:
    """A store's file in which anything stands anywhere, and any log beside it: what is read is told, never raised.

    Three octets say where the eight behind them go, to the file's end; what follows two NULs is the log.
    """
    changes, _nul, log = data.partition(b"\0\0")
    whole, new = _store()
    damaged = bytearray(whole)
    for at in range(0, len(changes) - 3, 11):
        where = int.from_bytes(changes[at : at + 3], "big") % len(damaged)
        damaged[where : where + 8] = changes[at + 3 : at + 11]
    directory = place() / "damaged"
    directory.mkdir(exist_ok=True)
    path = directory / "queue.sqlite"
    path.write_bytes(damaged)
    path.with_name(f"{path.name}-wal").write_bytes(log)
    read_log(log)
    file = PageFile(path)
    try:
        found = salvage(file, new)
    finally:
        file.close()
    assert all(line.isprintable() for line in found.damage)
    for name, rows in found.rows.items():
        assert all(set(row.values) <= set(new.columns.get(name, row.values)) for row in rows)


def _damaged_queue_alone(data: bytes) -> None:
    read_log(data)


def _kept_tables(data: bytes) -> None:
    """queue/tcpto, a passwd file for qmail-pw2u with the files in users/, and an answer of ident."""
    directory = place() / "kept"
    directory.mkdir(exist_ok=True)
    (directory / "tcpto").write_bytes(data)
    table = HostTable(directory)
    states = table.load()
    assert all(state.count >= 1 for state in states.values())
    table.keep(states.values())
    # Names that end with white space are kept as they are.
    assert table.load().keys() == states.keys()
    os.close(table._descriptor)
    user = user_in(data)
    assert user is None or user.translate(None, b" \t\r\n") == user
    names = ("include", "exclude", "mailnames", "subusers", "append")
    accounts, *files = (data + b"\0\0" * 6).split(b"\0\0")[:6]
    for name, text in zip(names, files, strict=True):
        (directory / name).write_bytes(text)
    rules = qmail_pw2u.rules_of(["-H"])
    lines = qmail_pw2u.assignments([*accounts.split(b"\n"), b"alias:x:7:8::/a:/s"], directory, rules)
    made = b"".join(lines)
    if not files[-1] and b":" not in files[3] and b"mailnames" not in data:
        with contextlib.suppress(qmail_newu.BadFormat):
            list(qmail_newu.records(BytesIO(made)))


_ADDRESSES = (
    *(
        b"u@a.example",
        b"u@x.b.example",
        b"u%x.example@hack.example",
        b"u%v%hack.example@hack.example",
        b"x!u@mx.example",
    ),
    *(
        b"@hack.example",
        b"@a.example",
        b"@HACK.example",
        b"@[192.0.2.9]",
        b"@[127.0.0.1]",
        b"@[10.1.2.3]",
        b"@far.example",
    ),
    *(
        b"no@a.example",
        b"@v.b.example",
        b"x@w.b.example",
        b"%",
        b"!",
        b"@",
        b".",
        b"[",
        b"]",
        b",",
        b" ",
        b"\xe9",
        b'"',
    ),
)
_CONTENTS = (
    *(b"From ", b">From x\n", b"\n", b"\r\n", b"\r", b"Subject: x\r\n", b"\n\nFrom a Mon Nov 23 12:56:33 2026\n"),
    *(b">>From ", b"x", b">", b" ", b"Fro", b"\0", b"\xe9", b"Delivered-To: x\n"),
)
_TOLD = (
    *(b"\n1.5 new msg 9\n", b'"}\n{"time":1.5,"event":"end","message":9}\n', b"> qp 1 uid 0", b"\r\n", b"\x1b[2J"),
    *(b"delivery 3: success: x/", b"%", b" ", b"\xe2\x80\xa8", b"\x85", b"\xed\xb3\xa9", b"\0", b'"', b"\\", b"x"),
)
_FRAME = b"\x94\x0b\1\x91\x96\0\xa52.0.0\xa0\xa0\xa0\xc2"
_STREAM = (
    *(len(each).to_bytes(4, "big") + each for each in (_FRAME, b"\x92\4\1", b"\x92\2\1", b"\x93\3\1\xa1x")),
    *(b"\0\0\0", b"\0\0\0\0", b"\0\0\0\3", b"\xff\xff\xff\xff", b"\x91", b"\xdd\xff\xff\xff\xff"),
)
_WAL = bytes.fromhex("377f06820037e21800001000")
_CHANGES = (
    *(b"\0\0\x10", b"\0\0\x64", b"\0\0\x68", b"\0\x10\0", b"\0\x20\5", b"\0\x3f\xf0", b"\xff" * 8, b"\5" * 8),
    *(b"\r\1\1\1\1\1\1\1", b"\0\0", _WAL, _WAL + b"\1" * 20, b"\x81" * 9, b"\2" * 8, b"\1\2\3\4\5\6\7\x08"),
)
_LISTS = (
    *(b"u:x:" + b"9" * 4400 + b":1::/h:/s\n", b"a " + b"9" * 400 + b" 1\n", b"a 1 " + b"9" * 400 + b"\n"),
    *(b"192.0.2.1 1700000000 3\n", b"2001:db8::1 5 1\n", b" ", b"\n", b"9" * 30, b"9" * 400, b"-1", b"\0\0", b"nan"),
    *(
        b"u:x:1000:100:gecos:/h:/s\n",
        b"U:x:5:5::/h:\n",
        b":",
        b"u",
        b"u:v:w\n",
        b"sub:u:pre:\n",
        b"1, 2 : USERID : UNIX : x\n",
    ),
)

TARGETS = (
    Target("recipient", _recipient, (), _ADDRESSES, (b"", b"u%", b"u@")),
    Target("mailbox-content", _mailbox_content, (), _CONTENTS, (b"", b"\n>"), _mailbox_content_alone),
    Target("dates", _dates, (), (b"\0", b"\0\0", b"\0\0\x69", b"\xff", b"\x3a", b"\0\x3a\xff")),
    Target("log-lines", _log_lines, (), _TOLD),
    Target("link", _link, (), _STREAM, (b"", b"\0\0\0\3\x92\4\1"), _link_alone),
    Target("damaged-queue", _damaged_queue, (), _CHANGES, (b"", _WAL), _damaged_queue_alone),
    Target("tables", _kept_tables, (qmail_pw2u.Stop,), _LISTS, (b"", b"u:x:")),
)

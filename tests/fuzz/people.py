"""Targets that read what the people of this host keep, say and set: mboxes that lose messages, mail that is summed up
on their terminals, what they set in their environment, what ``ekiden check`` looks at, command lines, /etc/hosts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from io import BytesIO

import click
import msgspec
from tests.fuzz.files import place
from tests.fuzz.target import Target

from ekiden.base.header_body import HeaderBody, field_name
from ekiden.base.mailbox import Malformed
from ekiden.commands.queueing import Age
from ekiden.commands.tracing import When
from ekiden.delivery.checking import users_problems
from ekiden.delivery.checking_lines import line_problems
from ekiden.mailstore.maildrop import MailboxError
from ekiden.mailstore.spool import Spool
from ekiden.mailstore.spool_scan import _uid, scan
from ekiden.programs import (
    maildir2mbox,
    maildirwatch,
    qbiff,
    qmail_inject,
    qmail_local,
    qmail_pw2u,
    qreceipt,
    sendmail,
)
from ekiden.programs.splogger import Lines
from ekiden.routing.inject import Defaults, Sender
from ekiden.routing.inject_header import Header, InvalidField
from ekiden.routing.users import User
from ekiden.runtime.classic.options import BadOption, options
from ekiden.runtime.syslog import FOLD, Syslog
from ekiden.runtime.tls import CannotSecure, context_of
from ekiden.runtime.ucspi import calling, serving, stub
from ekiden.runtime.ucspi.place import port_number
from ekiden.runtime.ucspi.wrong import WrongUse

_WHEN = 1_700_000_000.0


def _spool(data: bytes) -> None:
    """An mbox from which a POP3 client removes messages: the others stay, octet by octet and in order.

    The first octet says how the file is changed, and which of the first messages go; a part behind NUL NUL is what
    stands in the journal's place.
    """
    options, (text, _nul, journal) = data[:1] or b"\0", data[1:].partition(b"\0\0")
    directory = place() / "spool"
    directory.mkdir(exist_ok=True)
    # Where others may write, the file is changed in its place and not replaced.
    directory.chmod(0o1777 if options[0] & 1 else 0o700)
    path = directory / "mbox"
    path.write_bytes(text)
    status = path.stat()
    (directory / f".ekiden-pop3-journal-{status.st_dev}-{status.st_ino}").write_bytes(journal)
    with path.open("rb") as file:
        entries = scan(file.fileno(), len(text)) if text.startswith(b"From ") else []
    try:
        spool = Spool(bytes(path), bytes(directory))
    except MailboxError:
        assert text and not entries
        return
    assert path.read_bytes() == text, "a journal that is none was carried out"
    contents = [b"".join(spool.read(number)) for number in range(1, len(spool) + 1)]
    removed = {number for number in range(1, len(spool) + 1) if number < 8 and options[0] & 1 << number}
    spool.update(removed)
    spool.close()
    kept = [entry for number, entry in enumerate(entries, 1) if number not in removed]
    assert path.read_bytes() == b"".join(text[entry.start : entry.end] for entry in kept), "another message is gone"
    spool = Spool(bytes(path), bytes(directory))
    # Of messages that have the same header each is named by its content, unless it is the only one left.
    if len({_uid(text[entry.start : entry.end]) for entry in entries}) == len(entries):
        assert spool.uids() == [entry.uid for entry in kept], "names have changed"
    for number, (entry, content) in enumerate(zip(entries, contents, strict=True), 1):
        if entry in kept:
            assert b"".join(spool.read(1 + kept.index(entry))) == content, number
    spool.close()


def _spool_alone(data: bytes) -> None:
    path = place() / "alone"
    path.write_bytes(data[1:])
    Spool(bytes(path), bytes(place())).close()


_BOLD = maildirwatch._BOLD.split(b"%b")


def _summaries(data: bytes) -> None:
    """Mail on a terminal: no octet of it commands the terminal. In an mbox, from a Maildir, it stays one message."""
    path = place() / "summed"
    path.write_bytes(data)
    shown = maildirwatch._summary(bytes(path))
    for mark in _BOLD:
        shown = shown.replace(mark, b"|", 1)
    with _standard_input(data):
        shown += qbiff._gist()
    assert not shown.translate(None, bytes(range(32, 127)) + b"\n"), "it commands the terminal"
    assert shown.count(b"\n") <= 5 and len(shown) < 4 * len(data) + 500
    mbox = BytesIO()
    for _again in range(2):
        maildir2mbox._append(mbox, _WHEN, bytes(path))
    path.write_bytes(mbox.getvalue())
    with path.open("rb") as file:
        assert len(scan(file.fileno(), len(mbox.getvalue()))) == 2, "a message that nobody sent"


def _summaries_alone(data: bytes) -> None:
    path = place() / "summed"
    path.write_bytes(data)
    maildirwatch._summary(bytes(path))
    with _standard_input(data):
        qbiff._gist()
        os.lseek(0, 0, os.SEEK_SET)
        with contextlib.suppress(Malformed):
            qreceipt._read(b"a@b")


@contextlib.contextmanager
def _standard_input(data: bytes) -> Iterator[None]:
    """Have the octets on descriptor 0."""
    before, given = os.dup(0), os.memfd_create("input")
    os.write(given, data)
    os.lseek(given, 0, os.SEEK_SET)
    os.dup2(given, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(given)


def _receipt(data: bytes) -> None:
    """A message that asks qreceipt for a notice, and a sender, parted by NUL NUL: the notice's header is ours."""
    message, _nul, sender = data.partition(b"\0\0")
    with _standard_input(message):
        _asked, message_id = qreceipt._read(b"a@b")
    read = HeaderBody(BytesIO(qreceipt._notice(b"a@b", sender.replace(b"\0", b""), message_id)))
    assert [field_name(field) for field in read.fields()] == [b"from", b"to", b"subject"], "a field that nobody wrote"
    assert b"".join(read.body()).startswith(b"\nThis is the qreceipt program.")


_VARIABLES = (b"QMAILINJECT", b"QMAILNAME", b"QMAILUSER", b"QMAILHOST", b"QMAILSUSER", b"QMAILSHOST")


def _sender(data: bytes) -> None:
    """The environment that qmail-inject takes the sender from, and the control files that complete addresses.

    NUL parts the values. The header that is made of them alone is one, with the fields that it must have.
    """
    values = data.split(b"\0")
    given = values[6:10]
    domains = given + [b"host", b"example.org", b"plus.example", b"id.example"][len(given) :]
    environment = {name: value for name, value in zip(_VARIABLES, values, strict=False) if value != b"\xff"}
    made = Header(Defaults(*domains), Sender(environment), _WHEN, 7)
    made.field(b"Subject: x\n")
    new = made.finish()
    fields = list(HeaderBody(BytesIO(new)).fields())
    assert b"".join(fields) == new and b"\n\n" not in new, "it is not read as a header"
    names = sorted(map(field_name, fields))
    assert names == [b"cc", b"date", b"from", b"message-id", b"subject"], "a field that nobody wrote"


def _checked(data: bytes) -> None:
    """users/assign, a .qmail file and its name, parted by NUL NUL, as ``ekiden check`` shows what is wrong there."""
    assign, text, name = (data + b"\0\0" * 3).split(b"\0\0")[:3]
    home = place() / "checked"
    for directory in ("users", "alias"):
        (home / directory).mkdir(parents=True, exist_ok=True)
    (home / "users" / "assign").write_bytes(assign)
    for path in (home / "alias").iterdir():
        path.unlink()
    file = os.fsencode(home / "alias") + b"/.qmail-" + name.translate(None, b"\0/")[:200]
    with open(file, "wb") as written:
        written.write(text)
    user = User(b"u", 1000, 100, bytes(home / "alias"), b"-", b"")
    for problem in (*users_problems(home, text), *line_problems("x", text, False, user)):
        assert str(problem).isprintable(), "it commands the terminal"
        msgspec.json.encode(problem)


def _checked_alone(data: bytes) -> None:
    list(line_problems("x", data, False, User(b"u", 1000, 100, b"/h", b"-", b"")))


def _arguments(data: bytes) -> None:
    """Command lines, NUL parting the words: understood, or refused with a reason."""
    words = [os.fsdecode(word) for word in data.split(b"\0")]
    _command_line(words)
    for word in (*words, *words[:1]):
        for kind in (Age(), When()):
            with contextlib.suppress(click.UsageError):
                assert isinstance(kind.convert(word, None, None), float)
        port = port_number(word)
        assert port is None or 0 <= port < 65536


def _command_line(words: Sequence[str]) -> None:
    known = "46dDvqQhHrRi:p:t:T:l:I:"
    for read in (
        lambda: calling.parse(words),
        lambda: serving.parse(words),
        lambda: qmail_inject._request(words),
        lambda: qmail_local._options(words),
        lambda: qmail_pw2u.rules_of(words),
        lambda: sendmail._mode(options(words, sendmail._KNOWN)[0]),
        lambda: sendmail._dsn(dict(options(words, sendmail._KNOWN)[0])),
    ):
        with contextlib.suppress(BadOption, WrongUse, sendmail._Wrong):
            read()
    with contextlib.suppress(BadOption):
        found, rest = options(words, known)
        assert all(letter in known for letter, _value in found) and rest == words[len(words) - len(rest) :]


class _Entries(Syslog):
    """Keeps what the system's log would get."""

    def __init__(self) -> None:
        super().__init__(b"t")
        self.made: list[bytes] = []

    def send(self, level: int, text: bytes, when: float) -> None:
        self.made.append(text)


def _splogger(data: bytes) -> None:
    """Lines on their way to syslog: no octet is lost, no line is made, whatever pieces they come in."""
    texts = []
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        entries = _Entries()
        lines = Lines(entries)
        for piece in (*pieces, b"\n"):
            lines.feed(piece)
        stamps = [entry.replace(b"+", b" ").partition(b" ")[2] for entry in entries.made]
        assert all(not text.translate(None, bytes(range(32, 127))) and len(text) <= FOLD for text in stamps)
        firsts = sum(
            entry[len(entry) - len(text) - 1 :][:1] == b" " for entry, text in zip(entries.made, stamps, strict=True)
        )
        assert firsts == sum(map(bool, data.split(b"\n"))), "a line that nobody wrote"
        texts.append(
            b"".join(entry[len(entry) - len(text) :] for entry, text in zip(entries.made, stamps, strict=True))
        )
    assert texts[0] == texts[1] and len(texts[0]) == len(data.replace(b"\n", b""))


def _splogger_alone(data: bytes) -> None:
    Lines(_Entries()).feed(data)


def _hosts(data: bytes) -> None:
    """/etc/hosts and /etc/resolv.conf, parted by NUL NUL, as the ucspi-tcp programs read them."""
    hosts, _nul, resolver = data.partition(b"\0\0")
    before = stub.HOSTS, stub.RESOLV_CONF
    stub.HOSTS, stub.RESOLV_CONF = str(place() / "hosts"), str(place() / "resolver")
    try:
        (place() / "hosts").write_bytes(hosts)
        (place() / "resolver").write_bytes(resolver)
        assert stub.servers() and all(stub.servers())
        assert all(suffix.split() == [suffix] for suffix in stub.suffixes())
        for word in ["x.example", *hosts.decode("utf-8", "replace").split()[:9]]:
            for address in stub._in_hosts(word):
                assert address.lower() in hosts.decode("utf-8", "replace").lower()
    finally:
        stub.HOSTS, stub.RESOLV_CONF = before


def _certificate(data: bytes) -> None:
    context_of(data, "x")


_MBOX = (
    *(b"\0", b"\1", b"\2", b"\7", b"\x06", b"From a Mon Nov 23 12:56:33 2026\n", b"\n\nFrom b\n", b"From b\n", b"\n"),
    *(b"X-UIDL: x\n", b"Status: RO\n", b"x\r\n", b"\r\n\r\n", b"\0\0", b"ekiden-journal 1", b"x", b"Subject: y\n"),
)
_SUMMED = (
    *(b"Return-Path: <a b>\n", b"Return-Path: <>\n", b"Delivered-To: c\n", b"From: d\n", b"Subject: e\n", b" f\n"),
    *(b"\n", b"From ", b">From ", b"\n\nFrom x\n", b"\x1b[2J", b"\x07", b"\r", b"\x9b", b"\0", b"\xe9", b":", b"\t"),
)
_ASKED = (
    *(b"Notice-Requested-Upon-Delivery-To: a@b\n", b"notice-requested-upon-delivery-to : <a@b>, c\n", b"\n", b" d\n"),
    *(
        b"Message-ID: <x@y>\n",
        b"Message-ID:\n",
        b"\0\0",
        b"s@t",
        b"\r",
        b"\n\n",
        b"<",
        b">",
        b'"',
        b"\\",
        b"(",
        b"\xe9",
    ),
)
_SENT = (
    b"\0",
    b"c",
    b"f",
    b"i",
    b"r",
    b"m",
    b"s",
    b"A B",
    b'"',
    b"\\",
    b"(",
    b")",
    b"\n",
    b"\r",
    b"@",
    b"x.y",
    b"\xff",
    b"+",
)
_WRONG = (
    *(b"=a:u:1000:100:/h:::\n.\n", b"+a-:u:1:2:/h:-:b:\n", b":" + b"9" * 60 + b":", b"=b:u:0:1:/::\n", b"\0\0", b"."),
    *(
        b"|x /y\n",
        b"./M/\n",
        b"./m\n",
        b"&a b\n",
        b"\\u\n",
        b"+list\n",
        b"\x1b[2J",
        b"\xff",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"#",
    ),
    *(b"A.b", b"default", b"/etc/passwd/\n", b" ", b"\t", b":", b"=", b"\n"),
)
_WORDS = (
    *(
        b"\0",
        b"-",
        b"--",
        b"-t",
        b"-T1+2",
        b"-i127.0.0.1",
        b"-p25",
        b"-l0",
        b"host\x0025\0prog",
        b"-c40",
        b"-u1",
        b"-g2",
    ),
    *(
        b"-bp",
        b"-bs",
        b"-q1h",
        b"-Nnever",
        b"-Rhdrs",
        b"-Vx+2B",
        b"-fa@b",
        b"-Fx",
        b"-oi",
        b"9" * 40,
        b"9" * 4400,
        b"2h",
    ),
    *(
        b"1.5d",
        b"2026-11-23 14:00",
        b"0001-01-01",
        b"9999-12-31T23:59:59",
        b"inf",
        b"nan",
        b"\xb2",
        "²".encode(),
        b"smtp",
    ),
)
_HOSTS = (
    *(
        b"192.0.2.1 x.example y\n",
        b"::1 localhost\n",
        b"fe80::1%lo z\n",
        b"999.1 x.example\n",
        b"\0\0",
        b"#",
        b"\n",
        b" ",
    ),
    *(b"nameserver 192.0.2.1\n", b"search a b\n", b"domain c\n", b"nameserver\n", b"\xff", b"\t", b"x.example"),
)
_PEM = (
    *(
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"MIIB",
        b"\n",
    ),
    *(
        b"-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        b"Proc-Type: 4,ENCRYPTED\n",
        b"A" * 64,
    ),
)

TARGETS = (
    Target("spool", _spool, (), _MBOX, (b"\0From x\n", b"\3From x\nStatus: "), _spool_alone),
    Target("summaries", _summaries, (), _SUMMED, (b"", b"Subject: ", b"Subject: x\n\n"), _summaries_alone),
    Target("receipt", _receipt, (Malformed,), _ASKED, (b"", b"Notice-Requested-Upon-Delivery-To: ")),
    Target("sender", _sender, (Malformed, InvalidField), _SENT, (b"", b"\0\0")),
    Target("checked", _checked, (), _WRONG, (b"", b"&"), _checked_alone),
    Target("arguments", _arguments, (), _WORDS, (b"", b"-v")),
    Target(
        "splogger",
        _splogger,
        (),
        (b"alert: ", b"warning: ", b"\n", b"x" * 400, b"+", b" ", b"\0", b"\xe9"),
        (b"",),
        _splogger_alone,
    ),
    Target("hosts", _hosts, (), _HOSTS, (b"", b"\0\0", b"192.0.2.1 ")),
    Target("certificate", _certificate, (CannotSecure,), _PEM),
)

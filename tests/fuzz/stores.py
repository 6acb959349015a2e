"""Targets that read mailboxes, queues, configurations and logs that others wrote, and frames between processes."""

from __future__ import annotations

import os
import shutil
from io import BytesIO

import msgspec
from tests.fuzz.files import place
from tests.fuzz.target import Target

from ekiden.delivery import dotqmail, quota, remote_logins
from ekiden.mailstore.index import NAME
from ekiden.mailstore.maildir import Maildir
from ekiden.mailstore.maildrop import MailboxError
from ekiden.mailstore.spool_scan import NotMbox, read_range, scan
from ekiden.migration import qmail_queue, spool
from ekiden.migration.queue_file import read_queue_file
from ekiden.migration.queue_header import Damaged
from ekiden.migration.reading import Reading
from ekiden.policy.ruletext import parse_rules
from ekiden.programs import qmail_newu
from ekiden.routing.aliases import Domains, alias_records
from ekiden.runtime.control_frames import ControlAnswer, ControlRequest
from ekiden.runtime.frames import DeliveryAnswer, DeliveryRequest, IntakeAnswer
from ekiden.runtime.injection import packing
from ekiden.runtime.injection.door import NotQueued
from ekiden.runtime.injection.envelope import read_envelope
from ekiden.runtime.injection.link import GuestRequest
from ekiden.runtime.link import NO_FRAME
from ekiden.runtime.logreader import events
from ekiden.runtime.passwords import file as password_file
from ekiden.runtime.passwords import secret as password
from ekiden.runtime.pop3.frames import FromDoor, Serve, Served, ToDoor
from ekiden.settings.catalogue import CATALOGUE
from ekiden.settings.file import ControlFile
from ekiden.settings.values import parse
from ekiden.wire.pop3.content import octets

_FRAMES = (GuestRequest, IntakeAnswer, DeliveryRequest, DeliveryAnswer, FromDoor, ToDoor, Serve, Served)
_DECODERS = [msgspec.msgpack.Decoder(kind) for kind in (*_FRAMES, ControlRequest, ControlAnswer)]


def _frames(data: bytes) -> None:
    """What one process may say to another; each reader takes it whole or not at all."""
    for decoder in _DECODERS:
        try:
            frame = decoder.decode(data)
        except NO_FRAME:
            continue
        assert decoder.decode(msgspec.msgpack.encode(frame)) == frame
    try:
        value = packing.unpack(data)
    except ValueError:
        return
    assert packing.unpack(packing.pack(value)) == value
    assert msgspec.msgpack.decode(packing.pack(value)) == value


def _envelope(data: bytes) -> None:
    """qmail-queue's descriptor 1."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data[:60_000])
        os.close(writing)
        sender, recipients = read_envelope(reading)
    finally:
        os.close(reading)
    assert data.startswith(b"F%b\0" % sender + b"".join(b"T%b\0" % each for each in recipients) + b"\0")


def _mbox(data: bytes) -> None:
    """Messages follow each other without a gap, have names of their own, and are as long as is said."""
    path = place() / "mbox"
    path.write_bytes(data)
    with path.open("rb") as file:
        entries = scan(file.fileno(), len(data))
        assert [entry.start for entry in entries] == [0, *(entry.end for entry in entries)][: len(entries)]
        assert not entries or entries[-1].end == len(data)
        assert len({entry.uid for entry in entries}) == len(entries)
        for entry in entries:
            assert entry.start <= entry.content <= entry.stop <= entry.end
            assert octets(b"".join(read_range(file.fileno(), entry.content, entry.stop))) == entry.octets
    assert spool.move(path, place() / "none", False, lambda _octets: None).messages == len(entries)


def _maildir(data: bytes) -> None:
    """Files with any names, and any file in the place of the index."""
    path = place() / "Maildir"
    shutil.rmtree(path, ignore_errors=True)
    for part in ("new", "cur", "tmp"):
        (path / part).mkdir(parents=True)
    index, _nul, names = data.partition(b"\0")
    (path / os.fsdecode(NAME)).write_bytes(index)
    for number, name in enumerate(names.split(b"\0")[:20]):
        base = name.replace(b"/", b"_")[:200]
        if base not in (b"", b".", b".."):
            (path / ("cur" if number % 2 else "new") / os.fsdecode(base)).write_bytes(name)
    maildir = Maildir(bytes(path))
    uids, sizes = maildir.uids(), maildir.sizes()
    assert len(set(uids)) == len(uids) == len(sizes) == len(maildir)
    assert all(1 <= len(uid) <= 70 and uid.isascii() and min(uid) > 32 and max(uid) < 127 for uid in uids)
    assert all(size >= 0 for size in sizes)
    for number in range(1, len(maildir) + 1):
        try:
            b"".join(maildir.read(number))
        except MailboxError:
            # The index may name files that are not there.
            continue
    maildir.close()


def _quota(data: bytes) -> None:
    """Any file in the place of maildirsize; what is counted is never less than nothing."""
    path = place() / "counted"
    shutil.rmtree(path, ignore_errors=True)
    for part in ("new", "cur", "tmp"):
        (path / part).mkdir(parents=True)
    (path / "new" / "1.a.b,S=5").write_bytes(b"12345")
    (path / os.fsdecode(quota.FILE)).write_bytes(data)
    definition = quota.definition_of(bytes(path), b"") or b"100S"
    ledger = quota.Counts(bytes(path), definition)
    try:
        if ledger.reserve(7):
            ledger.add(7, 1)
    finally:
        ledger.close()
    again = quota.Counts(bytes(path), definition)
    again.close()


def _passwords(data: bytes) -> None:
    """control/pop3users and control/remoteauth: a line names a user, or is told of."""
    lines, problems = password_file.parse(data)
    for problem in problems:
        assert problem.line > 0
    logins, faults = remote_logins.parse(data, 25)
    assert all(user and word for user, word in logins.values()) and all(fault.line > 0 for fault in faults)
    for secret, fields in lines.values():
        password.scram(secret)
        assert not fields or 0 < int(fields[0]) < 1 << 32


def _sendmail_queue(data: bytes) -> None:
    """A control file of sendmail's queue."""
    file = read_queue_file(data, b"local.example")
    assert file.content(b"x\n").endswith(b"\r\nx\r\n")
    assert file.birth >= 0 and (file.envelope.recipients or file.programs)


def _sendmail_queue_alone(data: bytes) -> None:
    read_queue_file(data + b"\n.\n", b"local.example")


_CONFIGURATION = (
    *("sendmail.mc", "access", "virtusertable", "mailertable", "genericstable", "aliases", "local-host-names"),
    *("relay-domains", "virtual-host-names", "trusted-users", "sendmail.cf"),
)
_LOCAL = Domains(b"me.example", b"me.example", b"me.example")


def _sendmail_configuration(data: bytes) -> None:
    """NUL parts the files. What is planned for a home can be read there."""
    directory = place() / "mail"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, text in zip(_CONFIGURATION, data.split(b"\0"), strict=False):
        if text:
            (directory / name).write_bytes(text)
    home = place() / "home"
    (home / "alias").mkdir(parents=True, exist_ok=True)
    reading = Reading(directory, home, "me.example", lambda name: name == "user")
    for finding in reading.report.findings:
        assert "\n" not in str(finding.place)
    for path, lines in reading.plan.files.items():
        _check_planned(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _check_planned(path: str, text: bytes) -> None:
    directory, _slash, name = path.partition("/")
    if name == "tcp.smtp":
        list(parse_rules(text.splitlines(keepends=True)))
    elif name == "aliases":
        list(alias_records(text, _LOCAL))
    elif directory == "control":
        file = ControlFile(name, text)
        parse(name, CATALOGUE[name], file)
        assert not any(problem.fatal for problem in file.problems), file.problems
    elif path == "users/assign":
        list(qmail_newu.records(BytesIO(text)))
    elif directory == "alias":
        assert all(one.kind != dotqmail.REFUSE for one in dotqmail.parse(text, False))


def _qmail_queue(data: bytes) -> None:
    """NUL NUL parts the files of one message."""
    directory = place() / "queue"
    shutil.rmtree(directory, ignore_errors=True)
    for part, text in zip(("todo", "info", "local", "remote", "bounce", "mess"), data.split(b"\0\0"), strict=False):
        (directory / part / "0").mkdir(parents=True)
        if text:
            (directory / part / "0" / "7").write_bytes(text + (b"\0" if part not in ("bounce", "mess") else b""))
    queue = qmail_queue.QmailQueue(directory)
    for number in queue.accepted():
        message = queue.read(number)
        for address in (message.sender, *message.local, *message.remote, *message.unsorted):
            assert b"\0" not in address


def _log(data: bytes) -> None:
    """Our log's lines, of both forms."""
    directory = place() / "log"
    directory.mkdir(exist_ok=True)
    (directory / "ekiden.log").write_bytes(data)
    for event in events(directory):
        assert "message" in event or event["event"] == "refuse"


_FRAME_PIECES = (
    *(b"\x92\4\1", b"\x98\1\1", b"\x96\xc4\0\x90\0\xc2\xc4\0\xc4\0"),
    *(b"\x93\xc4\1a\0\xc4\0", b"\x95\xa4smtp\1\1\xa0\xc4\0"),
    *(b"\x91", b"\x90", b"\xdd\xff\xff\xff\xff", b"\xdc\0\1"),
    *(b"\xc6\0\0\0\1x", b"\xcf" + b"\xff" * 8, b"\xd3", b"\xc0"),
    *(b"\x94\x0b\1\x91\x96\0\xa52.0.0\xa0\xa0\xa0\xc2\xc2", b"\x91\x0d", b"\x81", b"\xca", b"\xa1\xff"),
)
_MBOX = (
    *(b"From a Mon Nov 23 12:56:33 2026\n", b"\n\nFrom ", b"\n"),
    *(b"X-UIDL: x\n", b"Status: RO\n", b"x\r\n", b"From ", b"\0"),
)
_NAMES = (
    *(b"ekiden-pop3-index 1\t\n", b"new/1.a.b\t5\nend\t1\n", b"\0"),
    *(b"1700000000.a.b", b"2.x,W=7:2,S", b":2,", b"\xff"),
    *(b"cur/", b"new/", b"\t", b"\n", b"-1", b"end\t", b".", b"a" * 80, b"9" * 30),
)
_COUNTED = (b"100S,1C\n", b"100S\n", b"5 1\n", b"-5 -1\n", b"12 2", b"\n", b" ", b"S", b"C", b",", b"9" * 19)
_SECRETS = (
    *(b"a:{PLAIN}x\n", b"b:$1$x$y:1000:100:/h\n", b"c:x:0:0:/\n", b":", b"\n", b"#", b"\0", b"9" * 30, b"/"),
    *(b"d:SCRAM-SHA-256$4096:c2FsdA==$", b"A" * 43 + b"=", b"$", b"x" * 12),
    *(b"smart.example u p\n", b"[192.0.2.1]:587 u p q\n", b"lmtp:/s u p\n", b" ", b"\t", b"[", b"]"),
)
_QF = (
    *(b"V8\n", b"T1700000000\n", b"S<a@b>\n", b"RPFD:<c@d>\n", b"Qrfc822;c\n"),
    *(b"H?D?Date: x\n", b"HTo: a\n", b".\n", b"F8dn\n"),
    *(b"$_x\n", b"${m}y\n", b"H?${m}?X: \x81{m}\n", b"\xff", b"\x81"),
    *(b"\n\t", b"B8BITMIME\n", b"Ze\n", b"d/x\n", b"R"),
    *(b'"', b"\\", b"@a,@b:", b"|prog", b":", b"?", b"q", b"T", b"V", b"\0"),
)
_CONTROL_FILE = b"V8\nT1\nS<>\nRP:<a>\n"
_QF_BEGINS = (_CONTROL_FILE, _CONTROL_FILE + b"HTo: ", _CONTROL_FILE + b"HX:")
_CONFIGURED = (
    *(b"define(`SMART_HOST', `x.example')dnl\n", b"define(`confTO_QUEUERETURN', `5d')\n", b"FEATURE(`access_db')\n"),
    *(b"define(`RELAY_MAILER_ARGS', `TCP $h 26')\n",),
    *(b"DAEMON_OPTIONS(`Port=587, Addr=::1')\n", b"MASQUERADE_AS(x.y)\n"),
    *(b"\0", b"10.1\tRELAY\n", b"a.example\tREJECT\n", b'To:b@c\tERROR:"550 no"\n', b"Connect:ipv6:2001:db8\tOK\n"),
    *(b"u@a.example\tv\n", b"@a.example\t%1@b.example\n"),
    *(b"@b.example error:nouser no\n", b"a.example\tsmtp:[x.y]\n"),
    *(b"c.example\trelay:d\n", b"root: user, x@y\n", b'p: "|prog"\n'),
    *(b"f: /var/f\n", b"l: :include:/x\n", b"a.example\n"),
    *(b"b.example\n", b"Cwx.example\n", b"DSmailer\n", b"O MaxMessageSize=1\n", b"Kaccess hash /etc/mail/access\n"),
    *(b"ClientConn:\t5\n", b"user: x\n", b"/", b"nobody: user\n"),
    *(b"LOCAL_DOMAIN(`b.example')\n", b"define(`LUSER_RELAY', `u')\n"),
    *("²".encode(), b"`", b"'", b"(", b")", b",", b":", b"/", b"%", b" ", b"\t", b"\n", b"\xff", b"LUSER_RELAY"),
)
_QUEUED = (
    *(b"u1\0p2\0Fa@b\0Tc@d", b"Fa@b", b"Tc@d", b"Dc@d", b"<c@d>:\nno\n\n"),
    *(b"Subject: x\n\n", b"\0\0", b"\0", b"T", b"\n\n"),
    *(b"<", b">:\n", b"\xe9"),
)
_LOGGED = (
    *(b"1.5 new msg 7\n", b"1.5 info msg 7: bytes 9 from <a@b> qp 1 uid 2\n"),
    *(b"1.5 starting delivery 3: msg 7 to remote a@b\n",),
    *(b"1.5 delivery 3: success: ok\n", b"1.5 end msg 7\n", b"1.5 refuse: 1.2.3.4 helo x from <a> to <b>: no\n"),
    *(b'{"time":1.5,"event":"starting","delivery":3,"message":7,"recipient":"x"}\n', b'{"event":"starting",'),
    *(b'"time":1.0}\n', b'"delivery":{}', b'"delivery":3'),
    *(b'{"time":1.5,"event":"success",', b"nan", b"\n", b"> to <", b"[]"),
    *(b"Nov 23 12:00:00 h qmail: ", "²".encode()),
)

TARGETS = (
    Target("frames", _frames, (), _FRAME_PIECES, (b"", b"\x92\4", b"\x93\4\1")),
    Target("envelope", _envelope, (NotQueued,), (b"F", b"T", b"\0", b"a@b", b"\0\0"), (b"F", b"Fa\0T")),
    Target("mbox", _mbox, (NotMbox,), _MBOX, (b"From x\n", b"From x\nStatus: ")),
    Target("maildir", _maildir, (), _NAMES),
    Target("quota", _quota, (), _COUNTED, (b"100S\n",)),
    Target("passwords", _passwords, (), _SECRETS, (b"a:", b"a:b:")),
    Target("sendmail-queue", _sendmail_queue, (Damaged,), _QF, _QF_BEGINS, _sendmail_queue_alone),
    Target("sendmail-configuration", _sendmail_configuration, (), _CONFIGURED, (b"", b"FEATURE(", b"\0", b"\0" * 5)),
    Target("qmail-queue", _qmail_queue, (qmail_queue.Damaged,), _QUEUED),
    Target("log", _log, (), _LOGGED),
)

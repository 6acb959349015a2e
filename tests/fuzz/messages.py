"""Targets that read messages: headers, address lists, what is injected, returned, converted and fetched."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.policy import SMTP
from io import BytesIO

from tests.fuzz.target import Target

from ekiden.base import header
from ekiden.base.envelope import Body, Recipient
from ekiden.base.header_body import HeaderBody
from ekiden.base.mailbox import Malformed, Token, parse, quote, unparse, unquote
from ekiden.base.mailbox_list import rewrite_field
from ekiden.base.outcome import Outcome
from ekiden.delivery.letter import quoted
from ekiden.delivery.remote_convert import UnconvertibleError, to_sevenbit
from ekiden.queue.bounce import compose
from ekiden.queue.dsn import Original
from ekiden.queue.store import Ended
from ekiden.routing.inject import Defaults, Sender
from ekiden.routing.inject_header import Header, InvalidField
from ekiden.settings.schema import Settings
from ekiden.wire.lines import is_whole, mend_newlines
from ekiden.wire.pop3.content import Measure, octets, pieces, top, whole

_SETTINGS = Settings(me=b"mx.example")
_DEFAULTS = Defaults(b"host", b"example.org", b"plus.example", b"id.example")
_ADDRESS = 1002
"""Octets of the longest address that any door takes."""
_WHEN = 1_700_000_000.0


def _header(data: bytes) -> None:
    """The header section is its fields, and each is found again by its name."""
    section, body = header.split(data)
    assert data in (section + body, section + b"\r\n" + body)
    fields = list(header.fields(data))
    assert b"".join(field.raw for field in fields) == section
    for field in fields:
        assert b"\r\n" not in re.sub(rb"\r\n[ \t]", b"", field.value)
        assert not field.name or field in list(header.find_all(data, field.name))
    looped = sum(field.name in (b"received", b"delivered-to") for field in fields)
    assert header.hops(data) == looped


def _header_alone(data: bytes) -> None:
    header.hops(data)
    for field in header.fields(data):
        assert len(field.value) <= len(field.raw)
    list(header.find_all(data, b"A"))


def _mailbox_list(data: bytes) -> None:
    seen: list[list[Token]] = []

    def note(address: list[Token]) -> list[Token]:
        seen.append(address)
        return address

    written = rewrite_field(b"To:" + data + b"\n", note)
    first, seen = seen, []
    assert rewrite_field(written, note) == written, "what was written is written differently"
    assert list(map(unquote, seen)) == list(map(unquote, first)), "the addresses are others when they are read again"


def _mailbox_list_alone(data: bytes) -> None:
    rewrite_field(b"To:" + data + b"\n", lambda address: address)


def _mailbox(data: bytes) -> None:
    """Tokens that were written are the same tokens; an envelope's address comes back from its header form."""
    tokens = parse(data)
    assert parse(unparse(tokens)) == tokens
    local, at, domain = data.rpartition(b"@")
    if at and local and re.fullmatch(rb"[a-z0-9]+(\.[a-z0-9]+)*", domain):
        assert unquote(parse(quote(data))) == data
        assert b"\n" not in quoted(data).replace(b"\\\n", b"")


def _inject(data: bytes) -> None:
    """A message on qmail-inject's standard input. The new header is one, and says whom it is for."""
    message = HeaderBody(BytesIO(data))
    made = Header(_DEFAULTS, Sender({b"QMAILUSER": b"u", b"QMAILINJECT": data[:1]}), _WHEN, 7)
    for field in message.fields():
        made.field(field)
    new, body = made.finish(), b"".join(message.body())
    assert new.endswith(b"\n") and b"\n\n" not in new
    assert not body or (body.startswith(b"\n") and body.endswith(b"\n"))
    assert all(made.recipients) and b"\n" not in made.sender
    again = HeaderBody(BytesIO(new + body))
    kept = list(again.fields())
    assert b"".join(kept) == new, "what was made is not read as a header"
    names = [field.partition(b":")[0].strip().lower() for field in kept]
    assert b"bcc" not in names and b"return-path" not in names
    assert {b"date", b"resent-date"} & set(names) and {b"message-id", b"resent-message-id"} & set(names)


def _bounce(data: bytes) -> None:
    """A notice about a message, a recipient and a report that strangers made.

    The first octet chooses the envelope; NUL parts what is made of the rest.
    """
    options = data[0] if data else 0
    sender, recipient, orcpt, text, reply, content = (data[1:] + b"\0" * 5).split(b"\0", 5)
    content = mend_newlines(content)
    sender, recipient, orcpt = sender[:_ADDRESS], recipient[:_ADDRESS], orcpt[:_ADDRESS]
    said = text.decode("utf-8", "replace")
    outcome = Outcome(options % 3, said[:9], said, said[9:30], reply.decode("utf-8", "replace"), bool(options & 8))
    ended = [Ended(Recipient(recipient, options // 8 % 16, orcpt), outcome)]
    ended.append(Ended(Recipient(b"b@c"), Outcome(2, "", "")))
    body = Body.BINARY if options & 64 else Body.EIGHTBIT
    original = Original(1, _WHEN, sender, content, len(content), b"HDRS" if options & 128 else b"", orcpt, body)
    notice = compose(_SETTINGS, original, ended, _WHEN)
    if notice is None:
        return
    assert is_whole(notice.content)
    head = header.split(notice.content)[0]
    names = [field.name for field in header.fields(head)]
    assert all(names) and len(names) == len(set(names)), "a field that nobody wrote"
    read = message_from_bytes(notice.content, policy=SMTP)
    parts = list(read.iter_parts())
    assert len(parts) == 3, "a part that nobody made"
    assert parts[0].get_content_type() == "text/plain"
    assert (options & 64) or not notice.content.endswith(content) or not content
    ours = notice.content.removesuffix(content) if not options & 64 else notice.content.partition(b"message/")[0]
    wide = max(len(sender), len(recipient), len(orcpt), *map(len, content.split(b"\r\n")))
    assert max(map(len, ours.split(b"\r\n"))) <= 1000 + 3 * wide


def _sevenbit(data: bytes) -> None:
    """What comes out is lines of ASCII; what was that already is not touched."""
    content = mend_newlines(data)
    made = to_sevenbit(content)
    assert made.isascii()
    head = header.split(content)[0]
    said, kept = ([field.value for field in header.find_all(text, b"subject")] for text in (made, head))
    assert said == kept


def _sevenbit_alone(data: bytes) -> None:
    to_sevenbit(mend_newlines(data.removesuffix(b"\xff") + b"\r\n\r\n\xe9\r\n"))


def _pop3_content(data: bytes) -> None:
    """What a client is sent, and told before that it is sent, in any pieces."""
    single = [data[at : at + 1] for at in range(len(data))]
    assert b"".join(pieces(single)) == b"".join(pieces([data] if data else [])) == whole(data)
    measure = Measure()
    for piece in single:
        measure.add(piece)
    assert measure.octets == octets(data)
    assert whole(data).replace(b"\r\n..", b"\r\n.").removeprefix(b".").count(b"\n") == whole(data).count(b"\n")
    for lines in (0, 1, 3):
        shown = b"".join(top([data], lines))
        assert shown == b"".join(top(single, lines))
        assert data.startswith(shown)


def _pop3_content_alone(data: bytes) -> None:
    assert b"".join(pieces(top([data], 3)))
    assert len(whole(data)) >= octets(data)


_FIELDS = (
    *(b"To: a@b, c@d\r\n", b"Received: x\r\n", b"received :\r\n", b"Delivered-To: a@b\r\n", b"Subject: x\r\n y\r\n"),
    *(b"\r\n", b" ", b"\t", b":", b"\r", b"\n", b"x", b"\xe9"),
)
_ADDRESSES = (
    *(b"a@b", b'"x\\"y"@c', b"<@r,@s:c@d>", b"(e(f))", b"g: h@i;", b"<>", b"[1.2]", b"\\", b",", b";", b":", b"\n "),
    *(b"<", b">", b"(", b")", b'"', b"[", b"]", b"@", b".", b" ", b"\r", b"\0", b"\xe9", b"=?utf-8?q?=E9?="),
)
_INJECTED = (
    *(b"To: a, b@c.d\n", b"Cc: (x) <d>\n", b"Bcc: e\n", b"From: f+\n", b"Return-Path: <g@h>\n", b"Resent-To: i\n"),
    *(b"Apparently-To: j\n", b"Date: x\n", b"Message-ID: <k>\n", b"Sender: @l,@m:n@o\n", b"Content-Length: 1\n"),
    *(b"From x\n", b"\n", b" y\n", b"Reply-To: (\n", b"To: (\n", b"r", b"f", b"i", b"s", *_ADDRESSES[:12]),
)
_NOTICES = (
    *(b"\x02", b"\xff", b"\0", b"a@b", b"c@d", b"-@[]", b"#@[]", b"rfc822;x+3D", b"utf-8;\xc3\xa9", b"\r\n", b"\n"),
    *(b"Sorry. (#5.1.1)\n", b"5.1.1", b"did 0+2+0\n", b"550 no\n", b"Subject: x\r\n\r\nbody\r\n", b"--=_", b"\xe9"),
    *(b"Message-ID: <x@y>\r\n", b'"', b"\\", b">:", b"\t", b"\x7f", b"\xe2\x80\xa8", b"\xc2\x85"),
)
_PARTS = (
    *(b"MIME-Version: 1.0\r\n", b"Content-Type: text/plain\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n"),
    *(b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding: binary\r\n"),
    *(b"\r\n--b\r\n", b"\r\n--b--\r\n", b"--b"),
    *(b"Content-Type: message/rfc822\r\n", b'Content-Type: multipart/digest; boundary="b"\r\n', b"\r\n", b"\xe9"),
    *(b"; boundary*0=", b"; boundary*=utf-8''b", b"; boundary=", b"multipart/signed", b"base64", b"\0", b";", b'"'),
    *(b"Subject: x\r\n", b"\r\n ", b"=", b"'"),
)
_PART_BEGINS = (
    *(b"", b"Content-Type: multipart/mixed;", _PARTS[2], b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"),
)
_TEXT = (b".", b"..", b"\n", b"\r\n", b"\n\n", b"\n.\n", b"\r", b"Subject: x\n", b"\n\r\n", b"\r\n\r\n", b"x")

TARGETS = (
    Target("header", _header, (), _FIELDS, (b"", b"Received:", b"X: "), _header_alone),
    Target("mailbox-list", _mailbox_list, (Malformed,), _ADDRESSES, (b"", b"a <", b"g: "), _mailbox_list_alone),
    Target("mailbox", _mailbox, (Malformed,), _ADDRESSES, (b"", b'"', b"(", b"[")),
    Target("inject", _inject, (InvalidField,), _INJECTED, (b"", b"To: ", b"From: ", b"Cc: a <")),
    Target("bounce", _bounce, (), _NOTICES, (b"\x02a@b\0c@d\0\0", b"\x02a@b\0c@d\0\0\0\0")),
    Target("sevenbit", _sevenbit, (UnconvertibleError,), _PARTS, _PART_BEGINS, _sevenbit_alone),
    Target("pop3-content", _pop3_content, (), _TEXT, (b"",), _pop3_content_alone),
)

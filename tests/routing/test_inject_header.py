"""What qmail-inject makes of a header."""

from __future__ import annotations

import pytest

from ekiden.routing.inject import Defaults, Sender
from ekiden.routing.inject_header import Header, InvalidField

WHEN, PID = 1795406194.0, 321
NEW = b"Date: 23 Nov 2026 03:56:34 -0000\nMessage-ID: <20261123035634.321.qmail@id.x>\n"
FROM = b"From: jiro@h.x\n"
NOT_SHOWN = b"Cc: recipient list not shown: ;\n"


def header(
    *fields: bytes, letters: bytes = b"", sender: bytes | None = None, lists: tuple[bytes, ...] = ()
) -> Header:
    made = Header(
        Defaults(b"h.x", b"x", b"x", b"id.x"),
        Sender({b"USER": b"jiro", b"QMAILINJECT": letters}),
        WHEN,
        PID,
        sender,
        lists,
    )
    for field in fields:
        made.field(field)
    return made


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ([], NEW + FROM + NOT_SHOWN),
        ([b"to: a\n"], NEW + FROM + b"to: a@h.x\n"),
        ([b"To : a\n"], NEW + FROM + b"To: a@h.x\n"),
        ([b"Bcc: a\n", b"Subject: (un)touched <a\n"], NEW + FROM + NOT_SHOWN + b"Subject: (un)touched <a\n"),
        ([b"From: me (Me)\n", b"Cc: a\n"], NEW + b"From: me@h.x (Me)\nCc: a@h.x\n"),
        ([b"DATE: now\n", b"Cc: a\n"], NEW.split(b"\n", 1)[1] + FROM + b"DATE: now\nCc: a@h.x\n"),
        ([b"Content-Length: 5\n", b"To: a\n", b"Return-Path: b\n"], NEW + FROM + b"To: a@h.x\n"),
        ([b"Apparently-To: a\n"], NEW + FROM + NOT_SHOWN + b"Apparently-To: a@h.x\n"),
        ([b"Reply-To: r\n", b"Errors-To: e\n", b"Sender: s\n", b"To: a\n"],
         NEW + FROM + b"Reply-To: r@h.x\nErrors-To: e@h.x\nSender: s@h.x\nTo: a@h.x\n"),
        ([b"To: a@b (unclosed\n"], NEW + FROM + b"To: a@b (unclosed\n"),
        ([b"X-Reply-To: r\n", b"To: a\n"], NEW + FROM + b"X-Reply-To: r\nTo: a@h.x\n"),
    ],
)  # fmt: skip
def test_fields_and_their_order(fields: list[bytes], written: bytes) -> None:
    assert header(*fields).finish() == written


def test_recipients_come_from_every_field() -> None:
    made = header(b"To: a, b\n", b"Cc: c\n", b"Bcc: d, <>\n", b"Apparently-To: e\n", b"Reply-To: no\n")
    assert made.recipients == [b"b@h.x", b"a@h.x", b"c@h.x", b"d@h.x", b"e@h.x"]


def test_resent_messages() -> None:
    made = header(b"To: old\n", b"From: o\n", b"Date: d\n", b"Resent-To: new\n", b"Resent-Bcc: hidden\n")
    resent = b"".join(b"Resent-" + line + b"\n" for line in (NEW + FROM).splitlines())
    assert made.finish() == resent + b"To: old@h.x\nFrom: o@h.x\nDate: d\nResent-To: new@h.x\n"
    assert made.recipients == [b"new@h.x", b"hidden@h.x"]
    assert b"Resent-Cc: recipient list not shown: ;\n" in header(b"Resent-Sender: s\n").finish()
    assert b"\nCc:" not in header(b"Resent-Date: s\n").finish()


@pytest.mark.parametrize(("letters", "gone"), [(b"f", b"From: f@f.f\n"), (b"i", b"Message-ID: <1@x>\n"), (b"", b"")])
def test_letters_that_delete(letters: bytes, gone: bytes) -> None:
    fields = [b"From: f@f.f\n", b"Message-ID: <1@x>\n", b"To: a\n"]
    written = header(*fields, letters=letters).finish()
    assert [field for field in fields[:2] if field not in written] == ([gone] if gone else [])
    assert written.count(b"From:") == written.count(b"Message-ID:") == 1


@pytest.mark.parametrize(
    ("fields", "letters", "sender", "expected"),
    [
        ([], b"", None, b"jiro@h.x"),
        ([b"From: f\n"], b"", None, b"jiro@h.x"),
        ([b"Return-Path: <r>\n", b"Return-Path: s\n"], b"", None, b"r@h.x"),
        ([b"Return-Path: <>\n"], b"", None, b""),
        ([b"Return-Path: <r>\n"], b"s", None, b"jiro@h.x"),
        ([b"Return-Path: <r>\n"], b"", b"given@x.y", b"given@x.y"),
        ([], b"", b"", b""),
        ([], b"r", None, b"jiro-@h.x-@[]"),
        ([], b"m", None, b"jiro-1795406194.321@h.x"),
        ([b"Return-Path: r-\n"], b"r", None, b"r-@h.x-@[]"),
    ],
)
def test_sender(fields: list[bytes], letters: bytes, sender: bytes | None, expected: bytes) -> None:
    assert header(*fields, letters=letters, sender=sender).sender == expected


@pytest.mark.parametrize("field", [b"From: a (\n", b"Reply-To: a>\n", b"Return-Path: )\n"])
def test_senders_that_cannot_be_read(field: bytes) -> None:
    with pytest.raises(InvalidField) as caught:
        header(field)
    assert caught.value.field == field


def test_mail_followup_to() -> None:
    fields = [b"To: a, LIST@l.x\n", b"Cc: c d@x\n"]
    added = b"Mail-Followup-To: c@h.x,\n  d@x.x,\n  a@h.x,\n  LIST@l.x\n"
    assert added in header(*fields, lists=(b"list@l.x",)).finish()
    assert b"Mail-Followup" not in header(*fields, lists=(b"other@l.x",)).finish()
    assert b"Mail-Followup" not in header(b"Bcc: list@l.x\n", lists=(b"list@l.x",)).finish()
    given = header(*fields, b"Mail-Followup-To: z\n", lists=(b"list@l.x",)).finish()
    assert given.count(b"Mail-Followup-To") == 1 and b"Mail-Followup-To: z\n" in given

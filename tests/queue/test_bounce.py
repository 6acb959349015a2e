import email
import email.policy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.envelope import Body, Notify, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.queue.bounce import compose, reply_path
from ekiden.queue.dsn import Original
from ekiden.queue.store import Ended
from ekiden.settings.schema import Settings

SETTINGS = Settings(me=b"indy2.nix.co.jj", virtualdomains={b"virt.jj": b"alias-v"})
CONTENT = b"Message-ID: <1@nix.co.jj>\r\nSubject: hi\r\n\r\n--- not the break\r\n\r\n<nobody@x>:\r\n"
NOW = 1795406200.0
REPORT = "Sorry, no mailbox here by that name.\n\nRemote host said: 550 5.1.1 no\n"


def original(sender=b"jiro@nix.co.jj", content=CONTENT, **fields):
    return Original(5, 1795406193.0, sender, content, fields.pop("size", len(content)), **fields)


def ended(address, verdict=Verdict.FAILED, notify=0, text=REPORT, **fields):
    return Ended(Recipient(address, notify), Outcome(verdict, f"{(2, 4, 5)[verdict]}.1.1", text, **fields))


def composed(about=None, *recipients, settings=SETTINGS):
    notice = compose(settings, about or original(), recipients or [ended(b"haruo@x.jj")], NOW, 77)
    assert notice is not None
    assert b"\r\r" not in notice.content
    assert notice.content.count(b"\n") == notice.content.count(b"\r\n")
    return notice


def parsed(notice):
    """As a program that knows MIME reads it: message, text, status, returned part."""
    message = email.message_from_bytes(notice.content, policy=email.policy.SMTP)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert not message.defects
    parts = message.get_payload()
    assert len(parts) == 3 and not any(part.defects for part in parts)
    return message, *parts


def qsbmf(content):
    """A strict parser of QSBMF: recipients with their reasons, and what follows the break paragraph.

    None if the body is not QSBMF. ``content`` has LF line ends, as in a mailbox.
    """
    body = content.partition(b"\n\n")[2]
    if not body.startswith(b"Hi. This is the"):
        return None
    found = {}
    paragraphs = body.split(b"\n\n")
    for number, paragraph in enumerate(paragraphs):
        if paragraph.startswith(b"-"):
            return found, b"\n\n".join(paragraphs[number + 1 :])
        if paragraph.startswith(b"<"):
            first, _, reason = paragraph.partition(b"\n")
            assert first.endswith(b">:")
            found[first[1:-2]] = reason
    raise AssertionError("no break paragraph")


def mailbox_form(content):
    return content.replace(b"\r\n", b"\n")


def without_boundary(content):
    """As ezmlm-idx does: a first paragraph that begins with ``--`` is skipped."""
    head, _, body = content.partition(b"\n\n")
    _preamble, _, rest = body.partition(b"\n--")
    return head + b"\n\n" + rest.partition(b"\n\n")[2]


def test_envelope_and_header_of_a_bounce():
    notice = composed()
    assert notice.envelope.sender == b""
    assert [recipient.address for recipient in notice.envelope.recipients] == [b"jiro@nix.co.jj"]
    assert notice.envelope.body == Body.SEVENBIT and not notice.envelope.smtputf8
    message, *_ = parsed(notice)
    assert notice.content.startswith(b"Received: (qmail 77 invoked for bounce); 23 Nov 2026 03:56:40 -0000\r\n")
    assert b"\r\nDate: 23 Nov 2026 03:56:40 -0000\r\n" in notice.content
    assert message["From"] == "MAILER-DAEMON@indy2.nix.co.jj"
    assert message["To"] == "jiro@nix.co.jj"
    assert message["Subject"] == "failure notice"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<1@nix.co.jj>"
    assert message["MIME-Version"] == "1.0"


def test_mime_readers_see_text_status_and_original():
    _message, text, status, returned = parsed(composed())
    assert text.get_content_type() == "text/plain"
    assert text.get_content().startswith("Hi. This is the qmail-send program at indy2.nix.co.jj.")
    assert "--- Below this line is a copy of the message." in text.get_content()
    blocks = status.get_payload()
    assert [block["Action"] for block in blocks] == [None, "failed"]
    assert blocks[1]["Final-Recipient"] == "rfc822; haruo@x.jj"
    assert returned.get_content_type() == "message/rfc822"
    inner = returned.get_payload()[0]
    assert inner["Return-Path"] == "<jiro@nix.co.jj>"
    assert inner.as_bytes(policy=email.policy.SMTP).endswith(CONTENT)


@pytest.mark.parametrize("form", [mailbox_form, lambda content: without_boundary(mailbox_form(content))])
def test_qsbmf_readers_see_the_recipients(form):
    reports = [ended(b"haruo@x.jj"), ended(b"alias-v-a@virt.jj", text=""), ended(b"new\nline@x.jj", text="no\r\n")]
    found, rest = qsbmf(form(composed(None, *reports).content))
    assert found == {
        b"haruo@x.jj": b"Sorry, no mailbox here by that name.\n/Remote host said: 550 5.1.1 no",
        b"a@virt.jj": b"",
        b"new_line@x.jj": b"no?",
    }
    assert b"\nReturn-Path: <jiro@nix.co.jj>\n" + mailbox_form(CONTENT) in rest


def test_news_beside_failures_is_not_read_as_failure():
    reports = [
        ended(b"bad@x.jj"),
        ended(b"good@x.jj", Verdict.DELIVERED, Notify.SUCCESS, "did 1+0+0\n"),
        ended(b"slow@x.jj", Verdict.DEFERRED, Notify.DELAY, "<bad>:\n- wait\n"),
        ended(b"far@x.jj", Verdict.DELIVERED, Notify.SUCCESS, "mx accepted message.\n", remote="mx"),
        ended(b"list@x.jj", Verdict.DELIVERED, Notify.SUCCESS, "did 0+3+0\nqp 4\n", action="expanded"),
    ]
    notice = composed(None, *reports)
    message, text, status, _returned = parsed(notice)
    found, _rest = qsbmf(mailbox_form(notice.content))
    assert set(found) == {b"bad@x.jj"}
    assert message["Subject"] == "failure notice"
    assert [block["Action"] for block in status.get_payload()[1:]] == [
        *("failed", "delivered", "delayed", "relayed", "expanded")
    ]
    assert all(one.recipient.address.decode() in text.get_content() for one in reports)


@pytest.mark.parametrize(
    ("verdict", "notify", "text", "subject"),
    [
        (Verdict.DEFERRED, Notify.DELAY, "CNAME lookup failed.\n", "delay notice"),
        (Verdict.DELIVERED, Notify.SUCCESS, "did 1+0+0\n", "success notice"),
    ],
)
def test_notices_without_failure_are_no_bounces(verdict, notify, text, subject):
    notice = composed(None, ended(b"haruo@x.jj", verdict, notify, text))
    message, human, _status, returned = parsed(notice)
    assert message["Subject"] == subject
    assert qsbmf(mailbox_form(notice.content)) is None
    assert qsbmf(without_boundary(mailbox_form(notice.content))) is None
    assert "haruo@x.jj" in human.get_content()
    # RFC 3461 section 4.3: the whole is returned with failures only.
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"Subject: hi" in notice.content and b"nobody@x" not in notice.content


@pytest.mark.parametrize(
    ("sender", "path"),
    [
        (b"jiro@nix.co.jj", (b"", b"jiro@nix.co.jj")),
        (b"", (b"#@[]", b"postmaster@indy2.nix.co.jj")),
        (b"#@[]", None),
        (b"list-@nix.co.jj-@[]", (b"", b"list-@nix.co.jj")),
        (b"list-return-12-a=b@nix.co.jj", (b"", b"list-return-12-a=b@nix.co.jj")),
        (b"-@[]", (b"#@[]", b"postmaster@indy2.nix.co.jj")),
    ],
)
def test_reply_path(sender, path):
    assert reply_path(SETTINGS, sender) == path


def test_double_bounce():
    settings = Settings(me=b"me.jj", doublebounceto=b"trash", doublebouncehost=b"dbl.jj", bouncehost=b"bh.jj")
    notice = composed(original(b""), ended(b"gone@x.jj"), settings=settings)
    assert notice.envelope.sender == b"#@[]"
    assert notice.envelope.recipients[0].address == b"trash@dbl.jj"
    message, text, _status, _returned = parsed(notice)
    assert message["To"] == "trash@dbl.jj" and message["From"] == "MAILER-DAEMON@bh.jj"
    assert "--- Below this line is the original bounce." in text.get_content()
    assert b"\r\nReturn-Path: <>\r\n" in notice.content
    assert set(qsbmf(mailbox_form(notice.content))[0]) == {b"gone@x.jj"}


def test_triple_bounces_are_thrown_away():
    assert compose(SETTINGS, original(b"#@[]"), [ended(b"postmaster@indy2.nix.co.jj")], NOW) is None


def test_a_bounces_success_and_delay_are_told_to_nobody():
    every = Notify.SUCCESS | Notify.DELAY | Notify.FAILURE
    some = [ended(b"a@x", Verdict.DELIVERED, every), ended(b"b@x", Verdict.DEFERRED, every)]
    assert compose(SETTINGS, original(b""), some, NOW) is None


def test_never_means_never():
    assert compose(SETTINGS, original(), [ended(b"a@x", notify=Notify.NEVER)], NOW) is None
    notice = composed(None, ended(b"a@x", notify=Notify.NEVER), ended(b"b@x"))
    assert b"a@x" not in notice.content


@pytest.mark.parametrize(
    ("about", "kind"),
    [
        (original(), "message/rfc822"),
        (original(ret=b"FULL"), "message/rfc822"),
        (original(ret=b"HDRS"), "text/rfc822-headers"),
        (original(size=100_000), "text/rfc822-headers"),
        (original(content=CONTENT + b"x" * 60_000 + b"\r\n"), "text/rfc822-headers"),
        (original(content=CONTENT[:-20], size=len(CONTENT)), "text/rfc822-headers"),
        (original(body=Body.BINARY), "text/rfc822-headers"),
        (original(content=b"Subject: \xe9\r\n\r\n\xe9\r\n", body=Body.EIGHTBIT), "message/rfc822"),
        (original(content="Subject: 駅\r\n\r\n".encode(), smtputf8=True), "message/global"),
        (original(content="Subject: 駅\r\n\r\n".encode(), smtputf8=True, ret=b"HDRS"), "message/global-headers"),
        (original(content=b"Subject: x\r\n\r\n", smtputf8=True), "message/rfc822"),
    ],
)
def test_what_is_returned(about, kind):
    notice = composed(about)
    message, _text, _status, returned = parsed(notice)
    assert returned.get_content_type() == kind
    eight = not about.content.isascii()
    assert (message["Content-Transfer-Encoding"] == "8bit") == eight
    assert (returned["Content-Transfer-Encoding"] == "8bit") == eight
    assert notice.envelope.body == (Body.EIGHTBIT if eight else Body.SEVENBIT)
    if kind.endswith("headers"):
        assert b"nobody@x" not in notice.content


def test_an_endless_header_is_cut_at_a_line():
    content = b"X-Line: 0123456789\r\n" * 100_000
    notice = composed(original(content=content[:200_000], size=len(content)))
    assert 60_000 < len(notice.content) < 70_000
    assert b"0123456789\r\n\r\n--=_" in notice.content


def test_international_addresses():
    about = original("差出@例え.jj".encode(), smtputf8=True)
    notice = composed(about, ended("宛先@例え.jj".encode(), text="ございません\n"))
    assert notice.envelope.smtputf8
    _message, text, status, _returned = parsed(notice)
    assert status.get_content_type() == "message/global-delivery-status"
    assert "Final-Recipient: utf-8; 宛先@例え.jj\r\n".encode() in notice.content
    assert text.get_content_charset() == "utf-8" and "ございません" in text.get_content()
    assert set(qsbmf(mailbox_form(notice.content))[0]) == {"宛先@例え.jj".encode()}


def test_notices_in_the_same_second_have_their_own_message_ids():
    identifiers = {parsed(composed(None, ended(b"%d@x" % number)))[0]["Message-ID"] for number in range(20)}
    assert len(identifiers) == 20


def test_boundary_is_not_taken_from_the_original():
    first = composed()
    delimiter = b"--" + parsed(first)[0].get_boundary().encode()
    second = composed(original(content=CONTENT + delimiter + b"--\r\n" + delimiter + b"\r\n"))
    _message, _text, _status, returned = parsed(second)
    assert delimiter.decode() in returned.get_payload()[0].get_payload()


ADDRESS = st.binary(max_size=40) | st.sampled_from([b"a\r\n\r\n--x@y", b"<>:", b"-", b"a@b\r\nTo: c"])


@given(
    sender=ADDRESS.filter(lambda sender: sender != b"#@[]"),
    recipients=st.lists(st.tuples(ADDRESS, st.text()), min_size=1, max_size=4),
    content=st.binary(max_size=200).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"\r\n")),
    host=st.sampled_from([b"indy2.nix.co.jj", b"h"]),
)
def test_whatever_comes_the_structure_stands(sender, recipients, content, host):
    reports = [ended(address, text=text.encode("utf-8", "replace").decode()) for address, text in recipients]
    settings = msgspec.structs.replace(SETTINGS, bouncehost=host)
    notice = compose(settings, original(sender, content + b"\r\n"), reports, NOW)
    assert notice is not None
    message = email.message_from_bytes(notice.content)
    assert next(part.get_content_type() for part in message.get_payload()) == "text/plain"
    assert len(message.get_payload()) == 3
    assert len(message.keys()) in (9, 10, 11, 12)
    found, _rest = qsbmf(mailbox_form(notice.content))
    assert len(found) == len({_shown(address) for address, _text in recipients})
    head = notice.content.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))


def _shown(address):
    return bytes(95 if c == 10 else 63 if c < 32 or c == 127 else c for c in address)

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.envelope import Notify, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.queue import dsn
from ekiden.queue.dsn import Action, Original
from ekiden.queue.store import Ended
from ekiden.settings.schema import Settings

SETTINGS = Settings(
    me=b"indy2.nix.co.jj", virtualdomains={b"virt.jj": b"alias-v", b".sub.jj": b"s", b"no.virt.jj": b""}
)
CONTENT = b"Subject: hi\r\n\r\nbody\r\n"
ORIGINAL = Original(5, 1795406193.0, b"jiro@nix.co.jj", CONTENT, len(CONTENT))
NOW = 1795406200.0


def blocks(original, *ended):
    """The report as Python's email package reads it: a list of header blocks."""
    raw = dsn.delivery_status(SETTINGS, original, ended, NOW)
    kind = b"message/delivery-status" if raw.isascii() else b"message/global-delivery-status"
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    if kind == b"message/delivery-status":
        return email.message_from_bytes(b"Content-Type: %b\r\n\r\n%b" % (kind, raw)).get_payload()
    return [email.message_from_string(block) for block in raw.decode().split("\r\n\r\n")]


def failed(address=b"a@b", orcpt=b"", **fields):
    text = fields.pop("text", "no such user\n")
    return Ended(Recipient(address, 0, orcpt), Outcome(Verdict.FAILED, fields.pop("status", "5.1.1"), text, **fields))


@pytest.mark.parametrize(
    ("outcome", "action"),
    [
        (Outcome(Verdict.FAILED, "5.1.1", "did 0+1+0\n"), Action.FAILED),
        (Outcome(Verdict.DEFERRED, "4.4.1", ""), Action.DELAYED),
        (Outcome(Verdict.DELIVERED, "2.0.0", "did 1+0+0\n"), Action.DELIVERED),
        (Outcome(Verdict.DELIVERED, "2.0.0", "did 0+12+0\nqp 9\n", action="expanded"), Action.EXPANDED),
        (Outcome(Verdict.DELIVERED, "2.0.0", "x accepted message.\n", "mx.x"), Action.RELAYED),
        (Outcome(Verdict.DELIVERED, "2.0.0", "x accepted message.\n", action="relayed"), Action.RELAYED),
    ],
)
def test_actions(outcome, action):
    assert dsn.action_of(outcome) is action


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (Notify.DEFAULT, {Action.FAILED}),
        (Notify.NEVER, set()),
        (Notify.FAILURE, {Action.FAILED}),
        (Notify.DELAY, {Action.DELAYED}),
        (Notify.SUCCESS, {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}),
        (Notify.NEVER | Notify.FAILURE, set()),
        (Notify.SUCCESS | Notify.FAILURE | Notify.DELAY, set(Action)),
    ],
)
def test_notify_rules(notify, told):
    outcomes = {
        Outcome(Verdict.FAILED, "", ""),
        Outcome(Verdict.DEFERRED, "", ""),
        *(Outcome(Verdict.DELIVERED, "", "", *more) for more in ((), ("mx",), ("", "", False, "expanded"))),
    }
    ended = [Ended(Recipient(b"a@b", notify), outcome) for outcome in outcomes]
    assert {dsn.action_of(one.outcome) for one in ended if dsn.is_wanted(one)} == told


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"a@nix.co.jj", b"a@nix.co.jj"),
        (b"alias-v-a@virt.jj", b"a@virt.jj"),
        (b"Alias-V-a@VIRT.jj", b"a@VIRT.jj"),
        (b"alias-vx@virt.jj", b"alias-vx@virt.jj"),
        (b"s-a@x.sub.jj", b"a@x.sub.jj"),
        (b"-a@no.virt.jj", b"-a@no.virt.jj"),
        (b"alias-v-a", b"alias-v-a"),
    ],
)
def test_recipients_are_named_without_virtualdomains_prefix(address, name):
    assert dsn.named(SETTINGS, address) == name


def test_fields_of_message_and_recipients():
    original = Original(5, 1795406193.0, b"s@x", CONTENT, len(CONTENT), envid=b"QQ314159+2Bx")
    delayed = Ended(
        Recipient(b"b@y", Notify.DELAY), Outcome(Verdict.DEFERRED, "4.4.1", "CNAME lookup failed\ntemporarily.\n")
    )
    one = failed(b"a@b", b"rfc822;A+2Bx@b", remote="mx.b", reply="550 5.1.1 no\nsuch user")
    message, first, second = blocks(original, one, delayed)
    assert dict(message) == {
        "Reporting-MTA": "dns; indy2.nix.co.jj",
        "Original-Envelope-Id": "QQ314159+x",
        "Arrival-Date": "23 Nov 2026 03:56:33 -0000",
    }
    assert dict(first) == {
        "Original-Recipient": "rfc822; A+x@b",
        "Final-Recipient": "rfc822; a@b",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.b",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "23 Nov 2026 03:56:40 -0000",
    }
    assert dict(second) == {
        "Final-Recipient": "rfc822; b@y",
        "Action": "delayed",
        "Status": "4.4.1",
        "Diagnostic-Code": "x-ekiden; CNAME lookup failed temporarily.",
        "Last-Attempt-Date": "23 Nov 2026 03:56:40 -0000",
        "Will-Retry-Until": "30 Nov 2026 03:56:33 -0000",
    }


@pytest.mark.parametrize(
    ("remote", "field"),
    [("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("[192.0.2.1]", "[192.0.2.1]"), ("a", "a")],
)
def test_remote_mta(remote, field):
    assert blocks(ORIGINAL, failed(remote=remote))[1]["Remote-MTA"] == "dns; " + field


@pytest.mark.parametrize("status", ["", "5", "550", "5.1.1\r\nX: y", "9.0.0"])
def test_a_status_that_is_none_is_replaced(status):
    assert blocks(ORIGINAL, failed(status=status))[1]["Status"] == "5.0.0"


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("a@b", "rfc822; a@b"),
        ("a b@c", 'rfc822; "a b"@c'),
        ("駅@例え.jj", "utf-8; 駅@例え.jj"),
        ("駅 \\@例え.jj", "utf-8; 駅\\x{20}\\x{5C}@例え.jj"),
    ],
)
def test_address_types(address, field):
    assert dsn.typed(address.encode()).decode() == field
    assert blocks(ORIGINAL, failed(address.encode()))[1]["Final-Recipient"] == field


def test_address_that_is_not_utf8_does_no_harm():
    assert dsn.typed(b"a\xe9\n@b") == b"rfc822; a??@b"


@pytest.mark.parametrize(
    ("orcpt", "field"),
    [
        (b"rfc822;a@b", "rfc822; a@b"),
        (b"RFC822;a+20b@c", "rfc822; a b@c"),
        (b"rfc822;a+0D+0AX:+20y@c", "rfc822; a??X: y@c"),
        (b"utf-8;\\x+7B99C5+7D@b", "utf-8; \\x{99C5}@b"),
        ("utf-8;駅@b".encode(), "utf-8; 駅@b"),
        (b"rfc822;not+xtext", "rfc822; not+xtext"),
        (b"junk", "junk; "),
    ],
)
def test_original_recipient(orcpt, field):
    assert blocks(ORIGINAL, failed(b"a@b", orcpt))[1]["Original-Recipient"].strip() == field.strip()


def test_long_replies_are_folded():
    reply = "550 " + "word " * 1000 + "x" * 3000
    block = blocks(ORIGINAL, failed(reply=reply))[1]
    assert "".join(block["Diagnostic-Code"].split()) == "smtp;" + "".join(reply.split())


@given(st.binary(), st.integers(min_value=8, max_value=60))
def test_cut_keeps_everything(line, limit):
    pieces = list(dsn.cut(line, limit))
    assert b"".join(pieces) == line
    assert all(len(piece) <= limit for piece in pieces)


@given(st.text(alphabet=st.characters(min_codepoint=0x80, exclude_categories=["Cs"])))
def test_cut_keeps_characters_whole(text):
    assert "".join(piece.decode() for piece in dsn.cut(text.encode(), 10)) == text


@given(st.binary(), st.binary(), st.binary(), st.text(), st.text(), st.text())
def test_nothing_from_outside_makes_a_field(address, orcpt, envid, status, remote, reply):
    original = Original(5, 1.0, b"s@x", CONTENT, len(CONTENT), envid=envid)
    raw = dsn.delivery_status(
        SETTINGS, original, [failed(address, orcpt, status=status, remote=remote, reply=reply)], 2.0
    )
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    allowed = {
        *(b"Reporting-MTA", b"Original-Envelope-Id", b"Arrival-Date", b"Original-Recipient", b"Final-Recipient"),
        *(b"Action", b"Status", b"Remote-MTA", b"Diagnostic-Code", b"Last-Attempt-Date"),
    }
    lines = [line for line in raw.split(b"\r\n") if line and not line.startswith(b" ")]
    assert {line.partition(b":")[0] for line in lines} <= allowed
    assert raw.count(b"\r\n\r\n") == 1

"""Targets that hear strangers: the servers' engines, and what stands in front of them."""

from __future__ import annotations

import re
from functools import cache

from tests.fuzz.target import Target
from tests.wire.netstrings import Driven, octets
from tests.wire.pop3.dialogue import MESSAGES, TIMESTAMP
from tests.wire.pop3.dialogue import Player as Pop3Player
from tests.wire.smtp.dialogue import Player

from ekiden.base.envelope import Body
from ekiden.base.reply import Refused
from ekiden.policy.blocking import Decision, Refusal, reversed_address
from ekiden.wire import sasl
from ekiden.wire.pop3.events import Apop, Update
from ekiden.wire.pop3.profile import Profile as Pop3Profile
from ekiden.wire.proxy import LONGEST, parse_header
from ekiden.wire.qmqp import Session as Qmqp
from ekiden.wire.qmtp import Session as Qmtp
from ekiden.wire.smtp.commands import parse_mail, parse_rcpt
from ekiden.wire.smtp.events import Content, EndOfMessage, Mail
from ekiden.wire.smtp.profile import Profile
from ekiden.wire.smtp.syntax import ADDRESS_OCTETS, decode_xtext, encode_xtext, parse_path, quote, unquote

_REPLY = re.compile(rb"(?:[2-5][0-9][0-9]-[ -~\x80-\xff]*\r\n)*[2-5][0-9][0-9] [ -~\x80-\xff]*\r\n")
_LIMIT = 1000
"""Octets of content that the servers here take."""


@cache
def _profile(options: int) -> Profile:
    return Profile(
        greeting="mx.example",
        size_limit=_LIMIT if options & 1 else 0,
        recipients=2 if options & 2 else 1000,
        errors=3 if options & 4 else 0,
        command_octets=100,
        line_octets=60 if options & 8 else 0,
        normalise=bool(options & 16),
        lmtp=bool(options & 32),
        starttls=bool(options & 64),
        mechanisms=(b"PLAIN", b"LOGIN", b"SCRAM-SHA-256") if options & 128 else (),
        plaintext=True,
        authenticate=bool(options & 1),
    )


def _smtp_server(data: bytes) -> None:
    """The first octet chooses what the server allows; the rest is said to it, at once and octet by octet."""
    profile = _profile(data[0] if data else 0)
    said = data[1:]
    whole, single = Player(profile), Player(profile)
    whole.say(said)
    assert not re.sub(_REPLY, b"", whole.output), "something is said that is no reply"
    _check_messages(profile, whole)
    if profile.starttls and b"STARTTLS" in said.upper():
        # What follows it at once is refused, what follows later is not.
        return
    for octet in octets(said):
        single.say(octet)
    assert single.output == whole.output
    assert single.messages == whole.messages
    assert _essence(single) == _essence(whole)


def _smtp_alone(data: bytes) -> None:
    Player(_profile(data[0])).say(data[1:])


def _check_messages(profile: Profile, player: Player) -> None:
    binary = any(isinstance(event, Mail) and event.envelope.body == Body.BINARY for event in player.events)
    for message in player.messages:
        content = message.partition(b": ")[2]
        assert not profile.size_limit or len(content) <= _LIMIT + 2000
        if not profile.normalise and not binary and b":" not in message.partition(b": ")[0]:
            assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content), "a lone CR or LF got in"


def _essence(player: Player) -> list[object]:
    """Events without the pieces of content."""
    kept = [event for event in player.events if not isinstance(event, Content)]
    return [EndOfMessage if isinstance(event, EndOfMessage) else event for event in kept]


def _smtp_path(data: bytes) -> None:
    """An address as MAIL and RCPT have it, and their parameters."""
    try:
        address, rest = parse_path(data)
    except ValueError:
        pass
    else:
        assert len(address) <= ADDRESS_OCTETS
        assert not rest or data.endswith(rest)
        assert b"\r" not in address and b"\n" not in address and b"\0" not in address
        assert parse_path(b"<" + quote(address) + b">") == (address, b""), "it means another one when said again"
    for parse in (lambda: parse_mail(b"FROM:" + data), lambda: parse_rcpt(b"TO:" + data, len(data) % 2 == 0)):
        try:
            parse()
        except Refused as refused:
            assert re.fullmatch(_REPLY, refused.reply.encode())
    assert decode_xtext(encode_xtext(data)) == data
    _quoted(data)


def _quoted(address: bytes) -> None:
    """What can be said at all is understood as what was meant."""
    try:
        said = quote(address)
    except ValueError:
        return
    assert b"\r" not in said and b"\n" not in said
    try:
        assert unquote(said) == address
    except ValueError:
        # The next host is to judge domains that nobody has.
        return


def _pop3_player(options: int) -> Pop3Player:
    profile = Pop3Profile(
        timestamp=TIMESTAMP if options & 1 else b"",
        starttls=bool(options & 2),
        plaintext=not options & 4,
        errors=3 if options & 8 else 0,
        command_octets=100,
    )
    player = Pop3Player(profile)
    if options & 16:
        player.server.open(len(MESSAGES))
    return player


def _pop3_alone(data: bytes) -> None:
    _pop3_player(data[0]).say(data[1:])


def _pop3_server(data: bytes) -> None:
    """The first octet chooses what the server offers."""
    options = data[0] if data else 0
    said = data[1:]
    whole, single = _pop3_player(options), _pop3_player(options)
    whole.say(said)
    assert whole.removed <= MESSAGES.keys()
    assert sum(isinstance(event, Update) for event in whole.events) <= 1
    for event in whole.events:
        if isinstance(event, Apop):
            assert re.fullmatch(rb"[0-9a-f]{32}", event.digest)
    if options & 2 and b"STLS" in said.upper():
        return
    for octet in [*octets(said), b""]:
        single.say(octet)
    assert (single.output, single.events, single.removed) == (whole.output, whole.events, whole.removed)


def _sasl(data: bytes) -> None:
    """Messages of PLAIN and SCRAM; a final message that is taken belongs to its first one."""
    for parse in (sasl.decode, sasl.parse_plain, sasl.check_name):
        try:
            parse(data)
        except sasl.Malformed:
            continue
    before, _newline, after = data.partition(b"\n")
    first = sasl.parse_scram_first(before)
    assert before.endswith(first.bare) and before.startswith(first.header)
    nonce = first.nonce + b"server"
    signed, proof = sasl.parse_scram_final(after, first, sasl.scram_challenge(nonce, b"salt", 4096), nonce)
    assert len(proof) == 32 and signed.startswith(first.bare)


def _netstrings(data: bytes) -> None:
    """QMTP and QMQP, as the first octet says, which is the limit of size as well."""
    limit = data[0] if data else 0
    session = Qmqp if limit & 1 else Qmtp
    whole = Driven(session(limit & ~1), [data[1:]])
    single = Driven(session(limit & ~1), octets(data[1:]))
    assert (single.messages, single.output, single.fault) == (whole.messages, whole.output, whole.fault)
    for content, _sender, recipients in whole.messages:
        assert recipients or session is Qmqp
        assert not re.search(rb"(?<!\r)\n", content)


def _netstrings_alone(data: bytes) -> None:
    Driven((Qmqp if data[0] & 1 else Qmtp)(0), [data[1:]])


def _proxy(data: bytes) -> None:
    header = parse_header(data)
    if header is None:
        assert len(data) < LONGEST
        return
    assert 0 < header.length <= len(data)
    assert parse_header(data + b"QUIT\r\n") == header, "what follows changes the header"
    for cut in {1, header.length // 2, header.length - 1}:
        assert parse_header(data[:cut]) is None, "it is complete before its end"


def _refusal(data: bytes) -> None:
    """rblsmtpd's conversation, and a client's address as a block list is asked for it."""
    whole, single = Refusal(b"451 no"), Refusal(b"451 no")
    said = whole.receive(data)
    assert said == b"".join(map(single.receive, octets(data)))
    assert not re.sub(_REPLY, b"", said) and whole.is_over == single.is_over
    # What a list says, or the administrator, becomes a reply.
    assert re.fullmatch(_REPLY, Decision(data, len(data) % 2 == 0).reply + b"\r\n")
    reversed_address(data)


_SMTP_DATA = b"\0MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n"
_SMTP_BEGINS = (b"\0", b"\x20", b"\0MAIL FROM:<", _SMTP_DATA, b"\x80AUTH LOGIN\r\n")
_SMTP = (
    *(b"\0", b" ", b"@", b"LHLO a\r\n", b"EHLO a\r\n", b"HELO a\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n"),
    *(b"MAIL FROM:<a@b> BODY=BINARYMIME SIZE=1 RET=HDRS ENVID=x\r\n",),
    *(b"RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c\r\n",),
    *(b"AUTH PLAIN AGppcm8Ac2VjcmV0IHdvcmQ=\r\n", b"AUTH LOGIN\r\n", b"amlybw==\r\n", b"c2VjcmV0IHdvcmQ=\r\n"),
    *(b"AUTH SCRAM-SHA-256 biwsbj1qaXJvLHI9YWJj\r\n", b"*\r\n", b"=\r\n", b"\x80", b"\x81"),
    *(b"DATA\r\n", b"BDAT 3\r\nabc", b"BDAT 3 LAST\r\nabc", b".\r\n", b"\r\n.\r\n", b"..", b"\r", b"\n", b"\r\n"),
    *(b"STARTTLS\r\n", b"RSET\r\n", b"NOOP\r\n", b"VRFY a\r\n", b"QUIT\r\n", b"REFUSE ME", b"@refused.example"),
)
_PATHS = (
    *(b"<", b">", b"@", b'"', b"\\", b"a", b".", b"[1.2.3.4]", b"@a,@b:", b"\xc3\xa9", b" SIZE=1", b" BODY=8BITMIME"),
    *(b" SMTPUTF8", b" NOTIFY=SUCCESS,DELAY", b" ORCPT=utf-8;", b" RET=FULL", b" ENVID=", b"+3D", b"="),
)
_POP3 = (
    *(b"\1", b"\2", b"\x10", b"USER jiro\r\n", b"PASS secret word\r\n", b"APOP jiro ", b"0" * 32, b"CAPA\r\n"),
    *(b"AUTH PLAIN ", b"AUTH SCRAM-SHA-256 ", b"biwsbj1qaXJvLHI9YWJj\r\n", b"AGppcm8Ac2VjcmV0IHdvcmQ=\r\n", b"*\r\n"),
    *(b"STLS\r\n", b"STAT\r\n", b"LIST 1\r\n", b"UIDL\r\n", b"RETR 1\r\n", b"TOP 2 1\r\n", b"DELE 3\r\n"),
    *(b"RSET\r\n", b"LAST\r\n", b"UTF8\r\n", b"LANG en\r\n", b"NOOP\r\n", b"QUIT\r\n", b" ", b"\n"),
)
_SASL = (
    *(b"n,,n=u,r=abc", b"n,a=u,n=u,r=abc", b"\n", b"c=biws,r=abcserver,p=", b"A" * 43 + b"=", b",x=y", b"=2C"),
    *(b"\0u\0p", b",", b"\0", b"="),
)
_NETSTRINGS = (
    *(b"\0", b"\1", b"\xff", b"4:\nabc,", b"4:\rabc,", b"1:a,", b"0:,", b"8:3:a@b,0:,,", b"2:no,", b"5:later,"),
    *(b"21:4:a\nb\n,3:a@b,3:c@d,,", b"12:0:,0:,3:a@b,,", b"99999999999:", b"999:", b":", b",", b"\r", b"\n"),
)
_NETSTRING_BEGINS = (b"\0", b"\x001:\n,0:,999999:", b"\x01999999:0:,0:,")
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY = (
    *(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", b"PROXY TCP6 2001:db8::1 ::1 1 25\r\n", b"PROXY UNKNOWN x\r\n"),
    *(b"PROXY ", b"TCP4 ", b"::", b" 1", b"\r\n", _V2 + b"\x20\0\0\0", _V2 + b"\x21\x11\0\x0c" + bytes(12), _V2),
)

TARGETS = (
    Target("smtp-server", _smtp_server, (), _SMTP, _SMTP_BEGINS, _smtp_alone),
    Target("smtp-path", _smtp_path, (), _PATHS, (b"", b"<", b"<a@b> ")),
    Target("pop3-server", _pop3_server, (), _POP3, (b"\1", b"\x11TOP 1 "), _pop3_alone),
    Target("sasl", _sasl, (sasl.Malformed,), _SASL, (b"", b"n,,n=a,r=b\nc=biws,r=bserver")),
    Target("netstrings", _netstrings, (), _NETSTRINGS, _NETSTRING_BEGINS, _netstrings_alone),
    Target("refusal", _refusal, (), _SMTP, (b"", b"RCPT "), lambda data: Refusal(b"451 no").receive(data)),
    Target("proxy", _proxy, (ValueError,), _PROXY, (b"", b"PROXY UNKNOWN ")),
)

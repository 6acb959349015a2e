"""Targets that hear servers: what a next hop says, also at a login, what the DNS answers, and lines as they pass."""

from __future__ import annotations

import contextlib
import re

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from tests.fuzz.target import Target

from ekiden.base.envelope import Body, Envelope, Recipient
from ekiden.base.outcome import Verdict
from ekiden.routing.mx import Question
from ekiden.runtime.resolver_answer import failure, translate, wire_name
from ekiden.wire.carriage import Inserter, Remover, add_cr
from ekiden.wire.dns import PTR, TXT, A, BadAnswer, BadName, decode_answer, encode_name, encode_query
from ekiden.wire.lines import DotReader, LineGauge, is_whole, mend_newlines, stuff
from ekiden.wire.sasl import (
    Malformed,
    parse_scram_final,
    parse_scram_first,
    scram_challenge,
    scram_keys,
    scram_signature,
    server_final,
)
from ekiden.wire.sasl_client import Credentials, choose
from ekiden.wire.smtp.client import Client, Done, Lost, Ready, StartTls, State, WantContent
from ekiden.wire.smtp.client_content import DotStuffer
from ekiden.wire.smtp.client_content import stuff as stuff_whole
from ekiden.wire.smtp.client_reply import MAXIMUM_REPLY, ReplyReader, UnreadableError

_RECIPIENTS = [Recipient(b"a@x.example"), Recipient(b"b c@x.example", 3, b"rfc822;b"), Recipient(b"d@x.example")]
_LOGIN = Credentials(b"u", b"p", b"nonce", 100_000)
_ALL = 255
_CONTENT = b".\r\nx\r\n..\r\n"


def _smtp_client(data: bytes) -> None:
    """The first octet chooses what is sent, the second how many octets of the rest come at once.

    0 is a line, as of a server that waits for what we say, and 255 is all.
    """
    options, size = (data + b"\0\0")[:2]
    said = data[2:]
    session = _talk(options, said, size)
    if b"STARTTLS" not in said.upper():
        # What follows STARTTLS at once ends the session. Else one of the two may have got further, not elsewhere.
        for one, other in zip(session.verdicts, _talk(options, said, 1).verdicts, strict=False):
            assert one == other, "in pieces it means something else"
    _check_replies(said)


def _talk(options: int, said: bytes, size: int) -> _Session:
    session = _Session(options)
    for piece in _pieces(said, size):
        session.hear(piece)
    session.client.lost()
    session.serve()
    assert session.client.state is State.CLOSED
    assert len(session.verdicts) <= session.begun
    return session


def _pieces(said: bytes, size: int) -> list[bytes]:
    if not size:
        return said.splitlines(keepends=True)
    step = max(len(said), 1) if size == _ALL else size
    return [said[at : at + step] for at in range(0, len(said), step)]


class _Session:
    """A shell that sends two messages as soon as it may."""

    def __init__(self, options: int) -> None:
        login = _LOGIN if options & 64 else None
        self.client = Client("192.0.2.1", b"me.example", "mx.example", "may", bool(options & 1), login)
        self.begun = 0
        self.verdicts: list[list[int]] = []
        """Of the messages that have ended, recipient by recipient."""
        self._streamed = bool(options & 2)
        self._body = Body.BINARY if options & 4 else Body.EIGHTBIT
        self._envelope = Envelope(b"s@x.example", _RECIPIENTS[: 1 + options // 8 % 3], ret=b"FULL", envid=b"e")

    def hear(self, said: bytes) -> None:
        """Octets of the server's."""
        self.client.receive(said)
        self.serve()

    def serve(self) -> None:
        """Answer what the engine asks."""
        client = self.client
        while (event := client.next_event()) is not None:
            if isinstance(event, Ready):
                self._begin()
            elif isinstance(event, StartTls):
                client.tls_established()
            elif isinstance(event, WantContent):
                # The session may have ended behind this event, in the same octets.
                if client.state is State.CONTENT:
                    client.content(_CONTENT)
                    client.content_end()
            elif isinstance(event, Done):
                self._end(event)
            elif isinstance(event, Lost):
                assert event.outcome.verdict == Verdict.DEFERRED
        assert not client.output().replace(b"\r\n", b"").count(b"\n")

    def _begin(self) -> None:
        self.begun += 1
        self.client.send(self._envelope, None if self._streamed else _CONTENT, len(_CONTENT), self._body)

    def _end(self, event: Done) -> None:
        self.verdicts.append([outcome.verdict for outcome in event.outcomes])
        assert len(event.outcomes) == len(self._envelope.recipients)
        for outcome in event.outcomes:
            assert re.fullmatch(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", outcome.status)
            assert outcome.verdict != Verdict.DELIVERED or outcome.reply.startswith("2")
            assert outcome.text.endswith("\n")
        if self.client.state is State.READY:
            if self.begun < 2:
                self._begin()
            else:
                self.client.quit()


def _smtp_alone(data: bytes) -> None:
    session = _Session(data[0])
    step = data[1] or len(data)
    for at in range(2, len(data), step):
        session.hear(data[at : at + step])
    session.client.lost()


def _check_replies(data: bytes) -> None:
    """Replies cut out of a stream are the same in any pieces."""
    whole, single = ReplyReader(), ReplyReader()
    found = _replies(whole, [data])
    again = _replies(single, [data[at : at + 1] for at in range(len(data))])
    assert again == found or len(data) > MAXIMUM_REPLY
    assert data.startswith(b"".join(found))
    assert all(len(reply) <= MAXIMUM_REPLY for reply in found)


def _replies(reader: ReplyReader, pieces: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
    except UnreadableError:
        pass
    return found


def _sasl_client(data: bytes) -> None:
    """A smart host that knows the password, or does not, and what it says: NUL parts its messages.

    It is believed only after the signature that the password makes, however it speaks before and after.
    """
    options, *said = data[:1] or b"\0", *data[1:].split(b"\0", 3)
    offered = [name for bit, name in enumerate((b"PLAIN", b"LOGIN", b"SCRAM-SHA-256")) if options[0] & 1 << bit]
    exchange = choose(offered, _LOGIN)
    if exchange is None:
        return
    try:
        for challenge in said:
            exchange.answer(challenge)
    except Malformed:
        pass
    assert exchange.name != b"SCRAM-SHA-256" or not exchange.done, "somebody who does not know the password"
    _scram_server(said[0], (said[1:] or [b""])[0])


def _scram_server(salt: bytes, changed: bytes) -> None:
    """The exchange as it should be, with any salt; the server's last message is changed."""
    exchange = choose([b"SCRAM-SHA-256"], _LOGIN)
    assert exchange is not None and exchange.first is not None
    keys = scram_keys(_LOGIN.password, salt or b"s", 1 + len(salt) % 3)
    first, nonce = parse_scram_first(exchange.first), _LOGIN.nonce + b"more"
    challenge = scram_challenge(nonce, keys.salt, keys.iterations)
    signature = scram_signature(keys, *parse_scram_final(exchange.answer(challenge), first, challenge, nonce))
    assert signature is not None, "the server would not let us in"
    final = server_final(signature)
    if changed and changed != final:
        with contextlib.suppress(Malformed):
            exchange.answer(changed)
        assert not exchange.done, "a signature that nobody made"
    exchange.answer(final)
    assert exchange.done


_QUERIES = {kind: encode_query(7, b"2.0.0.127.list.example", kind) for kind in (A, PTR, TXT)}


def _dns(data: bytes) -> None:
    """The first octet chooses the question, which the answer repeats unless the second one says that it does not."""
    kind = (A, PTR, TXT)[data[0] % 3 if data else 0]
    query = _QUERIES[kind]
    if data[1:2] != b"\xff":
        data = b"\0\x07" + data[2:4] + b"\0\1" + data[4:6] + b"\0\0\0\0" + query[12:] + data[6:]
    answer = decode_answer(data, query)
    assert kind != A or all(len(address) == 4 for address in answer.data)
    assert answer.code < 16
    encode_name(data.partition(b"\n")[2])


_KINDS = ("MX", "A", "AAAA")
_NAME = dns.name.from_text("x.example.")
_QUESTIONS = {kind: dns.message.make_query(_NAME, kind, id=7) for kind in _KINDS}


def _resolver(data: bytes) -> None:
    """What dnspython makes of a packet, in routing's words. The first octet chooses the question."""
    kind = _KINDS[data[0] % len(_KINDS)] if data else "MX"
    try:
        message = dns.message.from_wire(data[1:], ignore_trailing=True)
        if not _QUESTIONS[kind].is_response(message):
            return
        answer = dns.resolver.Answer(_NAME, dns.rdatatype.from_text(kind), dns.rdataclass.IN, message)
    except dns.exception.DNSException as error:
        assert failure(error).follow is None
        return
    except (OSError, ValueError, KeyError, EOFError):
        # What the resolver takes for an answer made to confuse it.
        return
    found = translate(Question(b"x.example", kind), answer)
    assert found.seconds >= 0
    if found.follow is not None:
        wire_name(found.follow)
    for preference, exchanger in found.answer.exchangers:
        assert 0 <= preference <= 65535 and exchanger == exchanger.lower()
        assert wire_name(exchanger) is not None, "an exchanger that cannot be asked for"


def _lines(data: bytes) -> None:
    """Content stuffed and read again is the same content, however it comes."""
    content = mend_newlines(data)
    assert is_whole(content)
    pieces = [content[at : at + 3] for at in range(0, len(content), 3)]
    stuffer = DotStuffer()
    sent = b"".join(map(stuffer.stuff, pieces)) + stuffer.finish()
    assert sent == stuff_whole(content)
    assert _read([sent + b"QUIT\r\n"]) == _read([bytes([octet]) for octet in sent + b"QUIT\r\n"])
    read, rest = _read([sent + b"QUIT\r\n"])
    assert rest == b"QUIT\r\n"
    assert read == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")
    assert stuff(read) + b".\r\n" == sent
    gauge = LineGauge()
    gauge.measure(content)
    assert gauge.longest == max(map(len, content.split(b"\r\n")))
    # Any octets at all: what is taken for the end is the same in any pieces.
    whole, single = _read([data]), _read([bytes([octet]) for octet in data])
    assert whole == single
    _check_carriage(data)


def _lines_alone(data: bytes) -> None:
    content = mend_newlines(data)
    _read([stuff(content) + b".\r\n"])
    _read([data])
    LineGauge().measure(content)
    Remover().feed(Inserter().feed(data))


def _read(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """The content, and what came behind its end; None if there was none."""
    reader, content = DotReader(), b""
    rest: bytes | None = None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        block, rest = reader.read(piece)
        content += block
    return content, rest


def _check_carriage(data: bytes) -> None:
    """Line ends put on and taken off, in any pieces; taking off what was put on changes nothing."""
    single = [bytes([octet]) for octet in data]
    for kind in (Remover, Inserter):
        whole, pieces = kind(), kind()
        at_once = whole.feed(data) + (whole.finish() if isinstance(whole, Remover) else b"")
        by_piece = b"".join(map(pieces.feed, single)) + (pieces.finish() if isinstance(pieces, Remover) else b"")
        assert at_once == by_piece
    remover = Remover()
    assert remover.feed(add_cr(data)) + remover.finish() == data


_HELLO = b"220 x\r\n250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-DSN\r\n250 BINARYMIME\r\n"
_REPLIES = (
    *(b"\x40\0", b"250 AUTH PLAIN LOGIN\r\n", b"250-AUTH SCRAM-SHA-256\r\n", b"334 \r\n", b"235 x\r\n", b"535 x\r\n"),
    *(b"334 cj1ub25jZXgscz1jMkZzZEE9PSxpPTE=\r\n", b"334 dj14\r\n"),
    *(b"\0\0", b"\1\0", b"\2\3", b"\4\0", _HELLO, b"250 x\r\n", b"354 x\r\n", b"421 x\r\n", b"450 4.1.1 x\r\n"),
    *(b"250-", b"550 5.1.1 x\r\n", b"250-STARTTLS\r\n", b"250 SIZE 1\r\n", b"2", b" ", b"-", b"\r", b"\n", b"\x85"),
)
_CHALLENGES = (
    *(
        b"\1",
        b"\2",
        b"\4",
        b"\7",
        b"\0",
        b"r=nonce",
        b"r=noncemore,s=c2FsdA==,i=1",
        b",i=9999999",
        b",s=",
        b"e=other",
    ),
    *(b"v=", b"A" * 43 + b"=", b"Username:", b"Password:", b"=", b",", b"\xff"),
)
_RECORDS = (
    *(b"\0\0\x81\x80\0\1", b"\1\0\x81\x80\0\2", b"\2\0\x81\x80\0\1", b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\2"),
    *(b"\xc0\x0c\0\x10\0\1\0\0\0\1\0\4\3abc", b"\xc0\x0c\0\x0c\0\1\0\0\0\1\0\2\xc0\x0c", b"\xc0\x0c", b"\x3f", b"\0"),
)
_PACKET = b"\0\x07\x81\x80\0\1\0\1\0\0\0\0\1x\7example\0\0\x0f\0\1"
_MX = b"\xc0\x0c\0\x0f\0\1\0\0\0\1\0\x05\0\x0a\1m\0"
_PACKETS = (b"\0", b"\1", b"\2", _PACKET, _MX, b"\xc0\x0c\0\5\0\1\0\0\0\1\0\2\xc0\x0e", b"\xc0\x0c", b"\0\1", b"\xff")
_LINES = (b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\n.\n", b"\r", b"\n", b"x", b"..")

TARGETS = (
    Target("smtp-client", _smtp_client, (), _REPLIES, (b"\0\0", b"\0\x01250-", b"\0\0" + _HELLO), _smtp_alone),
    Target("sasl-client", _sasl_client, (), _CHALLENGES, (b"\4", b"\4r=nonceX,s=")),
    Target("dns-answer", _dns, (BadAnswer, BadName), _RECORDS, (b"\0\0\x81\x80\x0f\xff",)),
    Target("dns-resolver", _resolver, (), _PACKETS, (b"\0" + _PACKET,)),
    Target("lines", _lines, (), _LINES, (b"",), _lines_alone),
)

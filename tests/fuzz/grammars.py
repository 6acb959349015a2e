"""Inputs that are nearly right, for hypothesis: sessions in an order that leads somewhere, lengths that fit.

Pieces put together at random seldom pass what looks at a length first; these do, and then something in them changes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import msgspec
from hypothesis import strategies as st
from tests.fuzz import corpus
from tests.fuzz.answers import _QUERIES
from tests.wire.smtp.dialogue import PASSWORD

from ekiden.runtime.link import NO_FRAME
from ekiden.wire.netstring import netstring

Octets = st.SearchStrategy[bytes]

_word = st.sampled_from([b"a", b"A-b", b"x.y", b'"q \\" q"', b"\xc3\xa9", b"a+b=c", b""])
_domain = st.sampled_from([b"a.example", b"[192.0.2.1]", b"refused.example", b"later.example", b"x", b""])
_address = st.builds(lambda local, domain: local + b"@" + domain, _word, _domain)
_text = st.lists(
    st.sampled_from([b"x", b".", b"..", b"\r\n", b"Subject: y\r\n", b"\n", b"REFUSE ME"]), max_size=8
).map(b"".join)
_option = st.integers(0, 255).map(lambda number: bytes((number,)))


def joined(*parts: Octets | bytes) -> Octets:
    """One after the other."""
    strategies = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*strategies).map(b"".join)


def several(one: Octets, most: int = 4) -> Octets:
    """None to ``most`` of them."""
    return st.lists(one, max_size=most).map(b"".join)


@st.composite
def changed(draw: st.DrawFn, whole: Octets) -> bytes:
    """The same with up to two places that are gone, double, cut off or something else."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 4)))
        middle = draw(st.sampled_from([b"", data[at:end] * 2, b"\0", b"\xff", b"\r\n", b" ", b"9"]))
        data = data[:at] + middle + (data[end:] if draw(st.integers(0, 9)) else b"")
    return data


def _line(*parts: Octets | bytes) -> Octets:
    return joined(*parts, b"\r\n")


def _smtp() -> Octets:
    login = base64.b64encode(b"\0jiro\0" + PASSWORD)
    parameters = several(
        st.sampled_from(
            [b" SIZE=9", b" BODY=8BITMIME", b" BODY=BINARYMIME", b" SMTPUTF8", b" RET=FULL", b" ENVID=x+2B"]
        ),
        2,
    )
    wishes = several(st.sampled_from([b" NOTIFY=NEVER", b" NOTIFY=SUCCESS,DELAY", b" ORCPT=rfc822;a+40b"]), 2)
    chunk = _text.map(lambda text: b"BDAT %d\r\n%b" % (len(text), text))
    last = _text.map(lambda text: b"BDAT %d LAST\r\n%b" % (len(text), text))
    content = joined(b"DATA\r\n", _text, b"\r\n.\r\n") | joined(several(chunk, 2), last)
    transaction = joined(
        _line(b"MAIL FROM:<", _address, b">", parameters),
        several(_line(b"RCPT TO:<", _address, b">", wishes), 3),
        content,
    )
    auth = st.just(b"AUTH PLAIN %b\r\n" % login) | st.just(
        b"AUTH LOGIN\r\namlybw==\r\n%b\r\n" % base64.b64encode(PASSWORD)
    )
    hello = st.sampled_from([b"EHLO a\r\n", b"LHLO a\r\n", b"HELO a\r\n"])
    return joined(_option, hello, several(auth, 1), several(transaction | st.just(b"RSET\r\n"), 3), b"QUIT\r\n")


def _replies() -> Octets:
    code = st.sampled_from([b"250", b"251", b"354", b"421", b"450", b"550", b"552", b"503"])
    status = st.sampled_from([b"", b" 2.1.5", b" 4.2.1 later", b" 5.1.1 no", b" \xe9"])
    further = several(joined(code.map(lambda digits: digits + b"-x\r\n")), 1)
    reply = st.builds(lambda digits, rest: digits + rest + b"\r\n", code, status)
    features = several(
        st.sampled_from(
            [
                b"250-PIPELINING\r\n",
                b"250-SIZE 9\r\n",
                b"250-CHUNKING\r\n",
                b"250-8BITMIME\r\n",
                b"250-DSN\r\n",
                b"250-BINARYMIME\r\n",
                b"250-SMTPUTF8\r\n",
                b"250-AUTH PLAIN\r\n",
            ]
        ),
        6,
    )
    hello = joined(b"220 x\r\n250-x\r\n", features, b"250 HELP\r\n")
    sent = st.integers(0, 2).flatmap(
        lambda more: joined(
            _replied(reply, b"250 ok\r\n", 2 + more), _replied(reply, b"354 go\r\n", 1), further, reply
        )
    )
    steps = st.sampled_from([b"\0", b"\0", b"\1", b"\x07", b"\xff"])
    return joined(_option, steps, hello, several(sent, 2), several(reply, 2))


def _replied(other: Octets, expected: bytes, count: int) -> Octets:
    """So many replies, most of them as expected."""
    return st.lists(st.just(expected) | st.just(expected) | other, min_size=count, max_size=count).map(b"".join)


def _pop3() -> Octets:
    login = st.sampled_from(
        [
            b"USER jiro\r\nPASS " + PASSWORD + b"\r\n",
            b"USER busy\r\nPASS x\r\n",
            b"AUTH PLAIN\r\n" + base64.b64encode(b"\0jiro\0" + PASSWORD) + b"\r\n",
        ]
    )
    verb = st.sampled_from([b"LIST", b"UIDL", b"RETR", b"DELE", b"TOP", b"STAT", b"RSET", b"LAST", b"NOOP", b"CAPA"])
    number = st.sampled_from([b"", b" 1", b" 2", b" 3", b" 4", b" 0", b" 1 2", b" 99999999999999999999"])
    return joined(_option, login, several(_line(verb, number), 8), b"QUIT\r\n")


def _netstrings() -> Octets:
    content = _text.map(lambda text: b"\n" + text.replace(b"\r\n", b"\n")) | _text.map(lambda text: b"\r" + text)
    recipients = st.lists(_address.map(netstring), max_size=3).map(b"".join)
    qmtp = joined(content.map(netstring), _address.map(netstring), recipients.map(netstring))
    qmqp = joined(_text.map(netstring), _address.map(netstring), recipients).map(netstring)
    even = st.integers(0, 127).map(lambda number: bytes((2 * number,)))
    return joined(even, several(qmtp, 3)) | joined(even.map(lambda one: bytes((one[0] + 1,))), qmqp)


_LABELS = st.sampled_from(
    [b"\xc0\x0c", b"\1m\0", b"\1m\xc0\x0c", b"\0", b"\3a b\0", b"\x3f" + b"l" * 63 + b"\xc0\x0c"]
)


def _record(kind: int, data: bytes, name: bytes, seconds: int) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, seconds, len(data)) + data


def _records() -> Octets:
    address = st.sampled_from([b"\x7f\0\0\2", b"\x7f\0\0", b"\0" * 16])
    text = st.sampled_from([b"\3abc", b"\0", b"\1a\2bc", b"\4abc", b"\xff" + b"x" * 255])
    exchanger = st.builds(
        lambda preference, name: struct.pack(">H", preference) + name, st.integers(0, 65535), _LABELS
    )
    kinds = {1: address, 28: address, 16: text, 12: _LABELS, 5: _LABELS, 15: exchanger}
    record = st.sampled_from(sorted(kinds)).flatmap(
        lambda kind: st.builds(_record, st.just(kind), kinds[kind], _LABELS, st.integers(0, 1 << 31))
    )
    return st.lists(record, max_size=4).map(lambda records: bytes((len(records),)) + b"".join(records))


def _dns_answer() -> Octets:
    # The target puts the question before what follows the sixth octet.
    return st.builds(
        lambda kind, code, records: bytes((kind,)) + b"\0\x81" + bytes((0x80 | code,)) + b"\0" + records,
        st.integers(0, len(_QUERIES) - 1),
        st.sampled_from([0, 0, 0, 2, 3]),
        _records(),
    )


def _dns_resolver() -> Octets:
    question = b"\1x\7example\0"
    kinds = {0: 15, 1: 1, 2: 28}
    return st.builds(
        lambda kind, code, records: (
            bytes((kind,))
            + struct.pack(">HBBHHHH", 7, 0x81, 0x80 | code, 1, records[0], 0, 0)
            + question
            + struct.pack(">HH", kinds[kind], 1)
            + records[1:]
        ),
        st.integers(0, 2),
        st.sampled_from([0, 0, 0, 2, 3]),
        _records(),
    )


_value = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.binary(max_size=4) | st.text(max_size=4) | st.floats(),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


@st.composite
def _frames(draw: st.DrawFn) -> bytes:
    """A kept one, perhaps with other values in it."""
    data = draw(st.sampled_from(_whole_frames()))
    if draw(st.booleans()):
        return data
    frame = msgspec.msgpack.decode(data)
    inner = frame
    while draw(st.booleans()) and (lists := [each for each in inner if isinstance(each, list) and each]):
        inner = draw(st.sampled_from(lists))
    inner[draw(st.integers(0, len(inner) - 1))] = draw(_value)
    return msgspec.msgpack.encode(frame)


@cache
def _whole_frames() -> list[bytes]:
    found = []
    for data in corpus.read("frames"):
        with suppress(*NO_FRAME):
            if isinstance(frame := msgspec.msgpack.decode(data), list) and frame:
                found.append(data)
    return found


def _link() -> Octets:
    return several(_frames().map(lambda frame: len(frame).to_bytes(4, "big") + frame), 3)


def _proxy() -> Octets:
    rest = st.sampled_from([b"QUIT\r\n", b""])
    places = st.sampled_from([bytes(12), bytes(36), b"\xc0\0\2\1\xc0\0\2\2\0\1\0\x19", b"", bytes(216)])
    second = st.builds(
        lambda version, family, data: (
            b"\r\n\r\n\0\r\nQUIT\n" + bytes((version, family)) + len(data).to_bytes(2, "big") + data
        ),
        st.sampled_from([0x20, 0x21, 0x2F, 0x11]),
        st.sampled_from([0, 0x11, 0x21, 0x12, 0x31]),
        places,
    )
    number = st.sampled_from([b"1", b"25", b"65535", b"65536", b"01", b"-1"])
    address = st.sampled_from([b"192.0.2.1", b"::1", b"::ffff:192.0.2.1", b"1.2.3", b"x"])
    family = st.sampled_from([b"TCP4", b"TCP6", b"UNKNOWN"])
    first = joined(b"PROXY ", family, b" ", address, b" ", address, b" ", number, b" ", number, b"\r\n")
    return joined(first | second, rest)


def _mime() -> Octets:
    encoding = st.sampled_from(
        [b"", b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding: base64\r\n"]
    )
    body = st.sampled_from([b"\xe9\r\n", b"x\r\n", b"=3D\xe9\r\n", b"--c\r\n", b"From x\r\n", b"\xe9"])
    leaf = joined(st.sampled_from([b"", b"Content-Type: text/plain; charset=latin1\r\n"]), encoding, b"\r\n", body)

    def multipart(part: Octets) -> Octets:
        kind = st.sampled_from([b"mixed", b"digest", b"signed", b"alternative"])
        many = joined(
            b"Content-Type: multipart/",
            kind,
            b'; boundary="b"\r\n',
            encoding,
            b"\r\n",
            several(joined(b"--b\r\n", part, b"\r\n"), 3),
            b"--b--\r\n",
        )
        return many | joined(b"Content-Type: message/rfc822\r\n", encoding, b"\r\n", part)

    subject = st.sampled_from([b"x", b"x", b"x", b"\xe9"])
    return joined(b"MIME-Version: 1.0\r\nSubject: ", subject, b"\r\n", st.recursive(leaf, multipart, max_leaves=4))


def _notice() -> Octets:
    said = st.sampled_from([b"", b"no\n", b"550 no\r\nway\n", b"\x1b[2J", b"\xe2\x80\xa8", b"x" * 300])
    status = st.sampled_from([b"rfc822;a+40b", b"utf-8;\\x{e9}", b"x", b""])
    parts = (_address | st.sampled_from([b"", b"#@[]", b"a@b-@[]"]), _address, status, said, said, _mime() | _text)
    return st.tuples(*parts).flatmap(lambda fields: _option.map(lambda option: option + b"\0".join(fields)))


_BUILT: dict[str, Callable[[], Octets]] = {
    "smtp-server": _smtp,
    "smtp-client": _replies,
    "pop3-server": _pop3,
    "netstrings": _netstrings,
    "dns-answer": _dns_answer,
    "dns-resolver": _dns_resolver,
    "frames": _frames,
    "link": _link,
    "proxy": _proxy,
    "sevenbit": _mime,
    "bounce": _notice,
}

NEARLY_RIGHT: dict[str, Octets] = {name: changed(build()) for name, build in _BUILT.items()}
"""By target: those whose inputs have an order, or lengths."""

RIGHT: dict[str, Octets] = {name: build() for name, build in _BUILT.items()}
"""The same before anything in them is changed."""

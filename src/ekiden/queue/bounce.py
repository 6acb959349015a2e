"""Notices to senders: bounces, double bounces, delays and successes.

A notice is a ``multipart/report`` (RFC 6522) of text, delivery status (RFC 3464) and the original or its header. One
that tells of failures is in D. J. Bernstein's qmail-send bounce message format (QSBMF) as well, because list managers
read that: a body that begins with ``Hi. This is the``, a paragraph per failed recipient, then a paragraph that begins
with ``-``. Programs that know nothing of MIME look for it where the body begins, so that its paragraphs stand there,
in what MIME calls the preamble and shows to nobody; the first delimiter line begins with ``-``. Programs that skip a
delimiter and its header find them again in the first part, where people read them. Notices that tell of no failure
must not be taken for bounces, and begin differently.

Everything here is pure: no clock, no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ekiden.base.dates import compact_date, utc_date
from ekiden.base.envelope import Body, Envelope, Recipient
from ekiden.base.header import find, header_end
from ekiden.base.sender import DOUBLE_BOUNCE, PER_RECIPIENT
from ekiden.queue.dsn import LINE, Action, Original, action_of, cut, delivery_status, is_wanted, named, sayable
from ekiden.queue.dsn import without_controls as clean
from ekiden.queue.store import Ended
from ekiden.settings.schema import Settings

_EMPTY_LINE = re.compile(r"(?<=\n)\n")

HEADER_OCTETS = 65_536
"""Most octets of the original's header that a notice returns."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A new message for the queue."""

    envelope: Envelope
    content: bytes


def compose(
    settings: Settings, original: Original, ended: Sequence[Ended], now: float, number: int = 0
) -> Notice | None:
    """The notice about recipients that came to an end, or to a delay that is to be told; None if none is due.

    None is due if nobody wants to be told of any of them (NOTIFY), if there must not be one (``reply_path``), and if
    the original was a bounce of which no recipient failed. ``number`` is the notice's own, for its ``Received``.
    """
    path = reply_path(settings, original.sender)
    told = [one for one in ended if is_wanted(one)]
    if path is not None and path[0]:
        told = [one for one in told if action_of(one.outcome) is Action.FAILED]
    if path is None or not told:
        return None
    sender, recipient = path
    content = _content(settings, original, told, now, recipient, number)
    body = Body.SEVENBIT if content.isascii() else Body.EIGHTBIT
    envelope = Envelope(sender, [Recipient(recipient)], body, smtputf8=not recipient.isascii())
    return Notice(envelope, content)


def reply_path(settings: Settings, sender: bytes) -> tuple[bytes, bytes] | None:
    """Envelope sender and recipient of a notice about a message from ``sender``; None if there must not be one.

    An empty ``doublebounceto`` means that double bounces are thrown away too (qmail-send(8) of netqmail).
    """
    if sender == DOUBLE_BOUNCE:
        return None
    sender = sender.removesuffix(PER_RECIPIENT)
    if sender:
        return b"", sender
    if not settings.doublebounceto:
        return None
    return DOUBLE_BOUNCE, settings.doublebounceto + b"@" + settings.doublebouncehost


def _content(
    settings: Settings, original: Original, told: Sequence[Ended], now: float, recipient: bytes, number: int
) -> bytes:
    failed = [one for one in told if action_of(one.outcome) is Action.FAILED]
    report = b"".join(_report(settings, original, failed, told))
    full = _returns_all(settings, original, bool(failed))
    status = delivery_status(settings, original, told, now)
    parts = [
        _part(b"text/plain; charset=" + _charset(report), report + _break(original, bool(failed), full)),
        _part(b"message/delivery-status" if status.isascii() else b"message/global-delivery-status", status),
        _returned(original, full),
    ]
    preamble = report if failed else b""
    boundary = _boundary(original, now, [preamble, *parts])
    delimiter = b"\r\n--%b\r\n" % boundary
    # The preamble's last paragraph has the empty line already that goes before a delimiter.
    message = preamble + delimiter[2:] + delimiter.join(parts) + b"\r\n--%b--\r\n" % boundary
    head = list(_header(settings, original, told, now, recipient, number))
    head.append(b'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="%b"\r\n' % boundary)
    if not message.isascii():
        head.append(b"Content-Transfer-Encoding: 8bit\r\n")
    return b"".join(head) + b"\r\n" + message


def _header(
    settings: Settings, original: Original, told: Sequence[Ended], now: float, recipient: bytes, number: int
) -> Iterator[bytes]:
    date = utc_date(now)
    yield b"Received: (qmail %d invoked for bounce); %b\r\n" % (number, date)
    yield b"Date: %b\r\n" % date
    yield b"From: %b\r\n" % sayable(settings.bouncefrom + b"@" + settings.bouncehost)
    yield b"To: %b\r\n" % sayable(recipient)
    yield b"Subject: %b\r\n" % _subject({action_of(one.outcome) for one in told})
    # A message may have several notices in one second, but never two about the same recipient.
    about = _digest(b"\n".join(one.recipient.address for one in told), 4)
    place = (compact_date(now), original.message, about, clean(settings.bouncehost))
    yield b"Message-ID: <%b.%d.%b.bounce@%b>\r\n" % place
    answered = find(original.content, b"Message-ID")
    value = clean(answered.value) if answered is not None else b""
    if value.isascii() and value.startswith(b"<") and value.endswith(b">") and len(value) < LINE:
        yield b"In-Reply-To: %b\r\nReferences: %b\r\n" % (value, value)
    yield b"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"


def _subject(actions: set[Action]) -> bytes:
    if Action.FAILED in actions:
        return b"failure notice"
    if Action.DELAYED not in actions:
        return b"success notice"
    return b"delay notice" if len(actions) == 1 else b"delivery notice"


# What people read.


def _report(
    settings: Settings, original: Original, failed: Sequence[Ended], told: Sequence[Ended]
) -> Iterator[bytes]:
    """Paragraphs, each ended by an empty line."""
    others = [one for one in told if action_of(one.outcome) is not Action.FAILED]
    host = clean(settings.bouncehost)
    if failed:
        yield b"Hi. This is the qmail-send program at %b.\r\n" % host
        yield _DOUBLE if _is_bounce(original) else _SINGLE
        for one in failed:
            yield _failure(settings, one)
    else:
        yield b"This is the mail system at %b, with news of a message that you sent.\r\n\r\n" % host
    for action, sentence in _NEWS.items():
        some = [one for one in others if action_of(one.outcome) is action]
        if some:
            until = utc_date(original.birth + settings.queuelifetime)
            yield sentence.replace(b"UNTIL", until) + b"\r\n"
            yield b"".join(_news(settings, one) for one in some) + b"\r\n"


_SINGLE = (
    b"Your message could not be delivered to the addresses below. The reasons are\r\n"
    b"permanent: there will be no further attempt.\r\n\r\n"
)
_DOUBLE = (
    b"A notice of failed delivery could itself not be delivered, and nobody else can\r\n"
    b"be told. Below are the address that it was for and the reason.\r\n\r\n"
)
_NEWS = {
    Action.DELAYED: (b"Not delivered yet; attempts go on until UNTIL.\r\nThere is nothing you need to do:"),
    Action.DELIVERED: b"Delivered:",
    Action.RELAYED: b"Handed on to a system that may not tell you what became of it:",
    Action.EXPANDED: b"Delivered to an address that stands for several, and handed on to them:",
}


def _failure(settings: Settings, one: Ended) -> bytes:
    """A recipient paragraph of QSBMF."""
    # The closing ``>:`` must be on the first line, which therefore cannot be cut.
    lines = [b"<" + clean(named(settings, one.recipient.address).replace(b"\n", b"_")) + b">:", *_reasons(one)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _news(settings: Settings, one: Ended) -> bytes:
    """Indented, so that no line can be taken for QSBMF."""
    lines = [b"  " + clean(named(settings, one.recipient.address))]
    if action_of(one.outcome) is Action.DELAYED:
        lines.extend(b"    " + line for line in _reasons(one))
    return b"\r\n".join(lines) + b"\r\n"


def _reasons(one: Ended) -> Iterator[bytes]:
    """The report's lines. An empty one would end the paragraph and becomes a ``/``, as in qmail-send's bounces."""
    text = _EMPTY_LINE.sub("/", "\n" + one.outcome.text.rstrip("\n"))[1:]
    for line in text.split("\n") if text else ():
        yield from cut(clean(line.replace("\t", " ").encode("utf-8", "replace")))


def _break(original: Original, failed: bool, full: bool) -> bytes:
    if not failed:
        return b"The header of your message is attached.\r\n"
    if not full:
        return b"--- Below this line is a copy of the message's header.\r\n"
    what = b"the original bounce" if _is_bounce(original) else b"a copy of the message"
    return b"--- Below this line is %b.\r\n" % what


def _is_bounce(original: Original) -> bool:
    """Whether the notice is a double bounce."""
    return original.sender in (b"", PER_RECIPIENT)


# What is returned of the original, and how parts are put together.


def _returns_all(settings: Settings, original: Original, failed: bool) -> bool:
    """Whether the whole original is returned: of failures only, and not if that was not wanted (RFC 3461 4.3)."""
    return (
        failed
        and original.ret.upper() != b"HDRS"
        and original.size <= settings.bouncebytes
        and len(original.content) >= original.size
        # Parts have lines; content that has none cannot be one (RFC 3030 section 3).
        and original.body != Body.BINARY
    )


def _returned(original: Original, full: bool) -> bytes:
    end = header_end(original.content)
    header = original.content[:end]
    if len(header) > HEADER_OCTETS or not header.endswith(b"\r\n"):
        # Too long, or cut off where our knowledge ends: whole lines only.
        header = header[: header.rfind(b"\r\n", 0, HEADER_OCTETS) + 2]
    international = original.smtputf8 and not header.isascii()
    if full:
        kind = b"message/global" if international else b"message/rfc822"
    else:
        kind = b"message/global-headers" if international else b"text/rfc822-headers"
    sender = original.sender.removesuffix(PER_RECIPIENT)
    path = b"Return-Path: <%b>\r\n" % sayable(sender)
    return _part(kind, path + (original.content if full else header))


def _part(kind: bytes, content: bytes) -> bytes:
    encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    return b"Content-Type: %b\r\n%b\r\n%b" % (kind, encoding, content)


def _charset(text: bytes) -> bytes:
    if text.isascii():
        return b"us-ascii"
    try:
        text.decode()
    except UnicodeDecodeError:
        return b"unknown-8bit"
    return b"utf-8"


def _boundary(original: Original, now: float, parts: Sequence[bytes]) -> bytes:
    """A delimiter that no part contains."""
    number = 0
    while True:
        seed = b"%d %f %d" % (original.message, now, number)
        boundary = b"=_" + _digest(seed + original.content[:1000], 15)
        if not any(boundary in part for part in parts):
            return boundary
        number += 1


def _digest(data: bytes, octets: int) -> bytes:
    """In hexadecimal."""
    import hashlib  # Costs a program that only queues a message milliseconds and memory.

    return hashlib.blake2b(data, digest_size=octets).hexdigest().encode()

"""Delivery status notifications: which are wanted, and the part of them that programs read (RFC 3461, RFC 3464).

Addresses outside ASCII take the forms of RFC 6533. Whatever came from outside (addresses, ENVID, ORCPT, replies) is
stripped of control characters, so that it cannot begin a field of its own, and long lines are folded.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ekiden.base.dates import utc_date
from ekiden.base.envelope import Notify
from ekiden.base.outcome import Outcome, Verdict
from ekiden.queue.store import Ended
from ekiden.routing.rewrite import domain_of, route_entry
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.syntax import decode_xtext, quote

LINE = 900
"""Octets in a line of a notice, at most; RFC 5322 section 2.1.1 allows 998."""

_CONTROL = bytes(ord("?") if c < 32 or c == 127 else c for c in range(256))
_ASCII = bytes(ord("?") if c > 126 or c < 32 else c for c in range(256))
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_STATUSES = {Verdict.DELIVERED: "2.0.0", Verdict.DEFERRED: "4.0.0", Verdict.FAILED: "5.0.0"}
_NOT_UNITEXT = re.compile(r"[\x00-\x20\x7f\\]")


class Action(enum.Enum):
    """What became of a recipient (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


_NEWS = {Action.FAILED: Notify.FAILURE, Action.DELAYED: Notify.DELAY}


@dataclass(frozen=True, slots=True)
class Original:
    """The message that a notice is about.

    ``content`` is its beginning in wire form, as much as is at hand; ``size`` is the whole's, in octets. ``sender``,
    ``ret``, ``envid``, ``body`` and ``smtputf8`` are the envelope's; ``birth`` is when it was queued, in seconds of
    the epoch.
    """

    message: int
    birth: float
    sender: bytes
    content: bytes
    size: int
    ret: bytes = b""
    envid: bytes = b""
    body: int = 0
    smtputf8: bool = False


def action_of(outcome: Outcome) -> Action:
    """What an outcome is called in a report; what a host beyond took is relayed, unless it says otherwise."""
    if outcome.verdict == Verdict.FAILED:
        return Action.FAILED
    if outcome.verdict == Verdict.DEFERRED:
        return Action.DELAYED
    if outcome.action:
        return Action(outcome.action)
    return Action.RELAYED if outcome.remote else Action.DELIVERED


def is_wanted(ended: Ended) -> bool:
    """Whether the sender is to be told of it."""
    return ended.recipient.wants(_NEWS.get(action_of(ended.outcome), Notify.SUCCESS))


def named(settings: Settings, address: bytes) -> bytes:
    """The recipient as the world knows it: without the prefix that virtualdomains put in front (qmail-send(8))."""
    entry = route_entry(domain_of(address).lower(), settings.virtualdomains)
    if entry and entry[1] and address.lower().startswith(entry[1].lower() + b"-"):
        return address[len(entry[1]) + 1 :]
    return address


def delivery_status(settings: Settings, original: Original, ended: Sequence[Ended], now: float) -> bytes:
    """The body of the part ``message/delivery-status``: fields about the message, then a block per recipient.

    If it is not ASCII, it is RFC 6533's ``message/global-delivery-status``.
    """
    head = [_field(b"Reporting-MTA", b"dns; " + settings.me)]
    if original.envid:
        head.append(_field(b"Original-Envelope-Id", _decoded(original.envid)))
    head.append(_field(b"Arrival-Date", utc_date(original.birth)))
    blocks = [b"".join(head)]
    for one in ended:
        blocks.append(b"".join(_recipient_fields(settings, original, one, now)))
    return b"\r\n".join(blocks)


def _recipient_fields(settings: Settings, original: Original, one: Ended, now: float) -> Iterator[bytes]:
    outcome = one.outcome
    action = action_of(outcome)
    if one.recipient.orcpt:
        yield _field(b"Original-Recipient", _original_recipient(one.recipient.orcpt))
    yield _field(b"Final-Recipient", typed(named(settings, one.recipient.address)))
    yield _field(b"Action", action.value.encode())
    status = outcome.status if _STATUS.fullmatch(outcome.status) else _STATUSES[Verdict(outcome.verdict)]
    yield _field(b"Status", status.encode())
    if outcome.remote:
        yield _field(b"Remote-MTA", b"dns; " + _host(outcome.remote))
    if outcome.reply:
        yield _field(b"Diagnostic-Code", b"smtp; " + _one_line(outcome.reply))
    elif action in (Action.FAILED, Action.DELAYED) and outcome.text:
        yield _field(b"Diagnostic-Code", b"x-ekiden; " + _one_line(outcome.text))
    yield _field(b"Last-Attempt-Date", utc_date(now))
    if action is Action.DELAYED:
        yield _field(b"Will-Retry-Until", utc_date(original.birth + settings.queuelifetime))


def typed(address: bytes) -> bytes:
    """An address with its type: ``rfc822; a@b``, or ``utf-8; ...`` outside ASCII (RFC 6533 section 3)."""
    if not address.isascii():
        try:
            text = address.decode()
        except UnicodeDecodeError:
            return b"rfc822; " + address.translate(_ASCII)
        escaped = _NOT_UNITEXT.sub(lambda found: f"\\x{{{ord(found.group()):02X}}}", text)
        return b"utf-8; " + escaped.encode()
    return b"rfc822; " + sayable(address)


def sayable(address: bytes) -> bytes:
    """An address as it stands in a header field: quoted where it must be, and never more than one line."""
    try:
        return quote(address)
    except ValueError:
        local, at, domain = address.translate(_CONTROL).rpartition(b"@")
        return b'"' + re.sub(rb'(["\\])', rb"\\\1", local or domain) + b'"' + (at + domain if at else b"")


def cut(line: bytes, limit: int = LINE) -> Iterator[bytes]:
    """A line in pieces of at most ``limit`` octets, at spaces where there are any, never within a UTF-8 character."""
    while len(line) > limit:
        end = line.rfind(b" ", 1, limit)
        if end < 0:
            end = limit
            while end > limit - 4 and line[end] & 0xC0 == 0x80:
                end -= 1
        yield line[:end]
        line = line[end:]
    yield line


def without_controls(octets: bytes) -> bytes:
    """Octets with every control character as ``?``."""
    return octets.translate(_CONTROL)


def _field(name: bytes, value: bytes) -> bytes:
    pieces = list(cut(without_controls(value), LINE - len(name)))
    folded = b"\r\n".join(
        piece if n == 0 or piece.startswith(b" ") else b" " + piece for n, piece in enumerate(pieces)
    )
    return name + b": " + folded + b"\r\n"


def _original_recipient(orcpt: bytes) -> bytes:
    """RFC 3461 section 4.2's parameter as RFC 3464's field."""
    kind, _, address = orcpt.partition(b";")
    return without_controls(kind).lower() + b"; " + _decoded(address).strip()


def _decoded(value: bytes) -> bytes:
    """The octets of xtext; what is none is taken as it is."""
    try:
        return decode_xtext(value)
    except ValueError:
        return value


def _host(name: str) -> bytes:
    """A host's name, or its address in brackets."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _one_line(name)
    return b"[IPv6:%b]" % str(address).encode() if address.version == 6 else b"[%b]" % str(address).encode()


def _one_line(text: str) -> bytes:
    return " ".join(text.split()).encode("utf-8", "replace").translate(_ASCII)

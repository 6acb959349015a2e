"""Stored messages as an administrator sees them, and the filters of ``ekiden queue``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from ekiden.base.outcome import Verdict
from ekiden.queue.ledger import NOTICE, Entry, decode
from ekiden.queue.store import UNDECODABLE, MessageRow, PartRow

KeyOf = Callable[[int], bytes | None]


class Filter(msgspec.Struct, frozen=True, array_like=True):
    """Which messages are meant: shell patterns or the text itself, case folded (None: any); ages in seconds (0: any).

    The null sender is the empty text.
    """

    sender: str | None = None
    recipient: str | None = None
    destination: str | None = None
    older: float = 0
    younger: float = 0
    held: bool | None = None


def matches(wanted: Filter, message: MessageRow, parts: list[PartRow], key_of: KeyOf, now: float) -> bool:
    """Whether a message is meant. A recipient or destination pattern needs one of its parts to fit."""
    age = now - message.birth
    if (wanted.older and age < wanted.older) or (wanted.younger and age > wanted.younger):
        return False
    if wanted.held is not None and wanted.held != message.held:
        return False
    recipients = (recipient.address for part in parts for recipient in part.recipients)
    destinations = (key_of(part.destination) or b"" for part in parts)
    return (
        _any_fits([message.sender], wanted.sender)
        and _any_fits(recipients, wanted.recipient)
        and _any_fits(destinations, wanted.destination)
    )


def _any_fits(values: Iterable[bytes], pattern: str | None) -> bool:
    return pattern is None or any(_fits(value, pattern) for value in values)


def _fits(value: bytes, pattern: str) -> bool:
    folded = text(value).lower()
    # An address literal is a pattern that does not fit itself.
    return folded == pattern.lower() or fnmatchcase(folded, pattern.lower())


def describe(message: MessageRow, parts: list[PartRow], key_of: KeyOf, damage: str = "") -> dict[str, Any]:
    """A message as a JSON object; times are seconds of the epoch, sizes octets. ``damage``: why it is set aside."""
    origin = message.meta.origin
    return {
        "id": message.id,
        "birth": message.birth,
        "sender": text(message.sender),
        "bytes": message.size,
        "held": message.held,
        "damaged": damage,
        "protocol": origin.protocol,
        "client": origin.address,
        "helo": text(origin.helo),
        "uid": origin.uid,
        "qp": origin.pid,
        "message_id": text(message.meta.message_id),
        "spool": message.spool,
        "accepted": message.meta.recipients,
        "bouncing": any(each.outcome.verdict == Verdict.FAILED for each in message.ended),
        "recipients": [
            {
                "recipient": text(recipient.address),
                "destination": text(key_of(part.destination) or b""),
                "due": part.due,
                "attempts": part.attempts,
                "last": part.last,
            }
            for part in parts
            for recipient in part.recipients
        ],
    }


def describe_end(row: tuple[int, int, float, bytes]) -> dict[str, Any]:
    """An entry of the ledger as a JSON object; times are seconds of the epoch, sizes octets."""
    number, part, at, encoded = row
    try:
        entry = decode(encoded, number, part)
    except UNDECODABLE:
        # The audit names it.
        entry = Entry()
    described: dict[str, Any] = {"id": number, "at": at if isinstance(at, float) else 0.0}
    if part == NOTICE:
        described["notice"] = entry.notice
    described["ends"] = [
        {
            "recipient": text(end.recipient),
            "end": end.end,
            "status": end.status,
            "report": end.report,
            "remote": end.remote,
            "local": end.local,
            "told": end.told,
        }
        for end in entry.ends
    ]
    began = entry.beginning
    if began is not None:
        described |= {
            "birth": began.birth,
            "sender": text(began.sender),
            "bytes": began.size,
            "checksum": f"{began.checksum:08x}",
            "recipients": began.recipients,
            "protocol": began.origin.protocol,
            "client": began.origin.address,
            "helo": text(began.origin.helo),
            "uid": began.origin.uid,
            "message_id": text(began.message_id),
        }
    return described


def text(octets: bytes) -> str:
    """Octets as text for people; what is not UTF-8 is shown escaped."""
    return octets.decode("utf-8", "backslashreplace")

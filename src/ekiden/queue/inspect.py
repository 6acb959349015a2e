"""Stored messages as an administrator sees them, and the filters of ``ekiden queue``."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from ekiden.base.outcome import Verdict
from ekiden.queue.ledger import NOTICE, decode
from ekiden.queue.store import MessageRow, PartRow

KeyOf = Callable[[int], bytes | None]


class Filter(msgspec.Struct, frozen=True, array_like=True):
    """Which messages are meant: shell patterns, case folded (empty: any), and ages in seconds (0: any)."""

    sender: str = ""
    recipient: str = ""
    destination: str = ""
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
    if wanted.sender and not _fits(message.sender, wanted.sender):
        return False
    if wanted.recipient and not any(
        _fits(recipient.address, wanted.recipient) for part in parts for recipient in part.recipients
    ):
        return False
    return not wanted.destination or any(_fits(key_of(part.destination) or b"", wanted.destination) for part in parts)


def _fits(value: bytes, pattern: str) -> bool:
    return fnmatchcase(text(value).lower(), pattern.lower())


def describe(message: MessageRow, parts: list[PartRow], key_of: KeyOf) -> dict[str, Any]:
    """A message as a JSON object; times are seconds of the epoch, sizes octets."""
    origin = message.meta.origin
    return {
        "id": message.id,
        "birth": message.birth,
        "sender": text(message.sender),
        "bytes": message.size,
        "held": message.held,
        "protocol": origin.protocol,
        "client": origin.address,
        "helo": text(origin.helo),
        "uid": origin.uid,
        "qp": origin.pid,
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
    entry = decode(encoded)
    described: dict[str, Any] = {"id": number, "at": at}
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
        }
    return described


def text(octets: bytes) -> str:
    """Octets as text for people; what is not UTF-8 is shown escaped."""
    return octets.decode("utf-8", "backslashreplace")

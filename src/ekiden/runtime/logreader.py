"""Reading the log back: the events of qmail-log(5)'s lines and of JSON lines, in the order of the files.

Both forms of ``log/ekiden.log`` are understood, in one file and across rotated ones. What is not about a message or a
client is passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

_PREFIX = re.compile(r"^.{15} \S+ qmail: ")
_PATTERNS = [
    (event, re.compile(pattern.replace(r"\d+", "[0-9]{1,19}")))
    for event, pattern in (
        ("new", r"new msg (?P<message>\d+)$"),
        ("info", r"info msg (?P<message>\d+): bytes (?P<bytes>\d+) from <(?P<sender>.*)> qp \d+ uid (?P<uid>\d+)$"),
        (
            "starting",
            r"starting delivery (?P<delivery>\d+): msg (?P<message>\d+) to (?P<channel>\w+) (?P<recipient>.*)$",
        ),
        ("success", r"delivery (?P<delivery>\d+): success: (?P<report>.*)$"),
        ("deferral", r"delivery (?P<delivery>\d+): deferral: (?P<report>.*)$"),
        ("deferral", r"delivery (?P<delivery>\d+): (?P<report>report mangled), will defer$"),
        ("failure", r"delivery (?P<delivery>\d+): failure: (?P<report>.*)$"),
        ("bounce", r"bounce msg (?P<message>\d+) qp (?P<notice>\d+)$"),
        ("double bounce", r"double bounce: discarding bounce/(?P<message>\d+)$"),
        ("triple bounce", r"triple bounce: discarding bounce/(?P<message>\d+)$"),
        ("end", r"end msg (?P<message>\d+)$"),
        ("administrator", r"administrator (?P<user>\S+): (?P<action>\w+) msg (?P<message>\d+)$"),
        (
            "refuse",
            r"refuse: (?P<client>\S+) (?:helo (?P<helo>\S+)|\w+) from <(?P<sender>.*?)> to <(?P<recipient>.*?)>:"
            r" (?P<reason>.*)$",
        ),
        ("refuse", r"refuse: (?:(?:pop3|smtp): )?(?P<client>\S+): (?P<reason>.*)$"),
    )
]
_WORDS = frozenset(event for event, _ in _PATTERNS)
_STARTING = {"delivery", "message", "recipient"}
_NUMBERS = ("message", "bytes", "uid", "delivery", "notice")
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Event = dict[str, Any]
"""``time`` (seconds of the epoch), ``event``, and what the line says; ``message`` unless a client was refused."""


def events(directory: Path) -> Iterator[Event]:
    """Every event about a message or a refused client. OSError if a file cannot be read."""
    deliveries: dict[int, tuple[int, str]] = {}
    with ExitStack() as opened:
        for file in _open(directory, opened):
            for line in file:
                event = _json_event(line) if line.startswith(b"{") else _line_event(line)
                if event is not None and _attribute(event, deliveries):
                    yield event


def _open(directory: Path, opened: ExitStack, name: str = "ekiden.log") -> list[BinaryIO]:
    """The log's files, the oldest first, each once, though they get other names while they are opened and read."""
    found: dict[int, BinaryIO] = {}
    numbers = sorted(int(path.suffix[1:]) for path in directory.glob(f"{name}.*") if path.suffix[1:].isdigit())
    numbers.append(numbers[-1] + 1 if numbers else 1)
    # From the newest on, because they move towards higher numbers, each by one when a file is full.
    for path in (directory / name, *(directory / f"{name}.{number}" for number in numbers)):
        with suppress(FileNotFoundError):
            file = opened.enter_context(path.open("rb"))
            found.setdefault(os.fstat(file.fileno()).st_ino, file)
    return list(reversed(found.values()))


def _json_event(line: bytes) -> Event | None:
    try:
        event = _decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if event.get("event") not in _WORDS or not isinstance(event.get("time"), float):
        return None
    wrong = any(not isinstance(event.get(name, 0), int) for name in _NUMBERS)
    return None if wrong or (event["event"] == "starting" and not event.keys() >= _STARTING) else event


def _line_event(line: bytes) -> Event | None:
    text = line.decode("utf-8", "replace").rstrip("\n")
    stamp, _space, said = _PREFIX.sub("", text).partition(" ")
    try:
        when = float(stamp)
    except ValueError:
        return None
    for event, pattern in _PATTERNS:
        found = pattern.match(said)
        if found:
            known = {name: value for name, value in found.groupdict().items() if value is not None}
            fields: Event = {"time": when, "event": event, **known}
            fields.update((name, int(fields[name])) for name in _NUMBERS if name in fields)
            return fields
    return None


def _attribute(event: Event, deliveries: dict[int, tuple[int, str]]) -> bool:
    """Give a delivery's result its message and recipient; False if nobody knows them any more."""
    number = event.get("delivery")
    if event["event"] == "starting":
        deliveries[number] = event["message"], event["recipient"]  # type: ignore[index]
    elif number is not None:
        known = deliveries.pop(number, None)
        if known is None:
            return False
        event["message"], event["recipient"] = known
    return "message" in event or event["event"] == "refuse"

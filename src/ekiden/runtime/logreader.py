"""Reading the log back: the events of qmail-log(5)'s lines and of JSON lines, in the order of the files.

Both forms of ``log/ekiden.log`` are understood, in one file and across rotated ones. What is not about a message or a
client is passed over.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

_LINE = re.compile(rb"(?:.{15} \S+ qmail: )?([0-9]{1,12}\.[0-9]{1,9}) ((\S+).*)")
_PATTERNS = [
    (event, re.compile(pattern.replace(r"\d+", "[0-9]{1,19}")))
    for event, pattern in (
        ("new", r"new msg (?P<message>\d+)$"),
        (
            "info",
            r"info msg (?P<message>\d+): bytes (?P<bytes>\d+) from <(?P<sender>.*)> qp (?P<qp>\d+) uid (?P<uid>\d+)$",
        ),
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
_NEEDED = {"starting": {"delivery", "message", "recipient"}, "bounce": {"message", "notice"}}
_QUEUED = {"message", "qp"}
_NUMBERS = ("message", "bytes", "qp", "uid", "delivery", "notice")
_FORWARD = re.compile(r"\bqp[ _]([0-9]{1,10})(?![0-9])")
_PACKED = ".gz"
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Form(NamedTuple):
    """A kind of line, and which of its fields are numbers."""

    event: str
    match: Callable[[str], re.Match[str] | None]
    numbers: list[str]


def _by_word() -> dict[bytes, list[_Form]]:
    words: dict[bytes, list[_Form]] = {}
    for event, pattern in _PATTERNS:
        form = _Form(event, pattern.match, [name for name in _NUMBERS if name in pattern.groupindex])
        words.setdefault(pattern.pattern.partition(" ")[0].encode(), []).append(form)
    return words


_BY_WORD = _by_word()
"""The forms by the word that their lines begin with; most lines are of no interest, or of one form."""

Event = dict[str, Any]
"""``time`` (seconds of the epoch), ``event``, and what the line says; ``message`` unless a client was refused.

A success that sent the message on bears ``forwards``, the numbers of the new messages.
"""


def events(directory: Path) -> Iterator[Event]:
    """Every event about a message or a refused client. OSError if a file cannot be read."""
    threads = _Threads()
    with ExitStack() as opened:
        for file in _open(directory, opened):
            for line in _lines(file):
                event = _json_event(line) if line.startswith(b"{") else _line_event(line)
                if event is not None and threads.follow(event):
                    yield event


class _Threads:
    """What ties lines to each other: deliveries to their messages, and messages to those that they were made of."""

    def __init__(self) -> None:
        self._deliveries: dict[int, Event] = {}
        self._queued: dict[int, Event] = {}

    def follow(self, event: Event) -> bool:
        """Give a delivery's result its message and recipient; False if nobody knows them any more."""
        number = event.get("delivery")
        if event["event"] == "starting":
            self._deliveries[event["delivery"]] = event
        elif number is not None:
            began = self._deliveries.pop(number, None)
            if began is None:
                return False
            event["message"], event["recipient"] = began["message"], began["recipient"]
            if event["event"] == "success" and "qp" in str(event.get("report")):
                self._find_forwards(event, began)
        elif event["event"] == "info" and event.keys() >= _QUEUED and event["qp"] != event["message"]:
            # A notice, which no process queued, has its own number there.
            self._queued[event["qp"]] = event
        return "message" in event or event["event"] == "refuse"

    def _find_forwards(self, event: Event, began: Event) -> None:
        """The messages that processes named in the report queued while it was delivered."""
        queued = [self._queued.get(int(process)) for process in _FORWARD.findall(str(event["report"]))]
        made = [one["message"] for one in queued if one is not None and one["time"] >= began["time"]]
        if made:
            event["forwards"] = made


def _open(directory: Path, opened: ExitStack, name: str = "ekiden.log") -> list[BinaryIO]:
    """The log's files, the oldest first, each once, though they get other names while they are opened and read.

    Those that logrotate has named by date, or compressed, too.
    """
    found: dict[int, BinaryIO] = {}
    plain = {path.name.removesuffix(_PACKED) for path in directory.glob(f"{name}[.-]*")}
    numbers = sorted(int(number) for old in plain if (number := old.removeprefix(f"{name}.")).isdecimal())
    numbers.append(numbers[-1] + 1 if numbers else 1)
    dated = sorted((old for old in plain if old.startswith(f"{name}-")), reverse=True)
    # From the newest on, because they move towards higher numbers, each by one when a file is full.
    for old in (name, *(f"{name}.{number}" for number in numbers), *dated):
        with suppress(FileNotFoundError):
            file = _open_either(directory / old, opened)
            found.setdefault(os.fstat(file.fileno()).st_ino, file)
    return list(reversed(found.values()))


def _open_either(path: Path, opened: ExitStack) -> BinaryIO:
    """A file of this name, or compressed: what is being compressed is there as it was until that is done."""
    try:
        return _open_one(path, opened)
    except FileNotFoundError:
        packed = _open_one(path.with_name(path.name + _PACKED), opened)
        return cast(BinaryIO, opened.enter_context(gzip.GzipFile(fileobj=packed)))


def _open_one(path: Path, opened: ExitStack) -> BinaryIO:
    return opened.enter_context(open(path, "rb", opener=_opener))


def _opener(path: str, flags: int) -> int:
    """Not to wait for ever for a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """A file's lines. OSError, with a name, if it cannot be read or uncompressed."""
    try:
        yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise OSError(errno.EIO, str(error), str(file.name)) from None


def _json_event(line: bytes) -> Event | None:
    try:
        event = _decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if event.get("event") not in _WORDS or not isinstance(event.get("time"), float):
        return None
    wrong = any(not isinstance(event.get(name, 0), int) for name in _NUMBERS)
    if wrong or not event.keys() >= _NEEDED.get(event["event"], set()):
        return None
    if event["event"] == "refuse":
        # The line has the code and, of a login, the user, too.
        said = _read_text(str(event.get("text", "")), b"refuse:")
        return event | {"reason": said["reason"]} if said is not None else None
    return event


def _line_event(line: bytes) -> Event | None:
    parsed = _LINE.match(line)
    if parsed is None or parsed[3] not in _BY_WORD:
        return None
    event = _read_text(parsed[2].decode("utf-8", "replace"), parsed[3])
    if event is not None:
        event["time"] = float(parsed[1])
    return event


def _read_text(said: str, word: bytes) -> Event | None:
    """What a line says that begins with ``word``."""
    for form in _BY_WORD[word]:
        found = form.match(said)
        if found:
            fields: Event = {"time": 0.0, "event": form.event, **found.groupdict()}
            for name in form.numbers:
                fields[name] = int(fields[name])
            if fields.get("helo", "") is None:
                del fields["helo"]
            return fields
    return None

"""The log as every role writes it: one line per happening, joined into one write every few milliseconds.

Lines have qmail-log(5)'s forms, so that programs that read qmail's log read ours; the setting ``logformat`` makes
JSON objects of them instead. A sink is one end of a datagram socket pair shared by all roles, whose other end the
log role reads, or a plain descriptor such as 2. A sink that does not take lines never stops a role: lines are kept up
to ``KEPT`` octets, then dropped and counted, and the number is logged once the sink works again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ekiden.base.outcome import MANGLED, Outcome
from ekiden.base.reply import Reply

if TYPE_CHECKING:
    import asyncio

DATAGRAM = 60_000
"""Octets in one datagram to the log role, at most; longer output is split between lines."""

KEPT = 1_000_000
"""Octets kept while the sink does not take them."""

_WORDS = ("success", "deferral", "failure")

TOGETHER = 0.005
"""Seconds for which lines wait for company: a system call for each turn of a busy loop costs more than they."""

RETRY = 1.0
"""Seconds after which a sink that did not take lines is tried again, if no new line does it earlier."""

_NEWLINE = ord("\n")
# What qmail-send holds to be safe within a line: '%' is not, because of format strings.
_UNSAFE = frozenset((*range(33), ord("%"), *range(127, 256)))
_SAFE = bytes(ord("/") if c == _NEWLINE else ord("_") if c in _UNSAFE else c for c in range(256))
_PRINTABLE = bytes(ord("/") if c == _NEWLINE else c if 32 <= c <= 126 else ord("?") for c in range(256))
_WORD = _PRINTABLE.replace(b" ", b"_")


def safe(octets: bytes) -> str:
    """Octets as qmail-send logs them: newline is ``/``, spaces and whatever is not printable ASCII is ``_``."""
    return octets.translate(_SAFE).decode("ascii")


def word(octets: bytes) -> str:
    """Octets fit for one word of a line: as ``printable``, with ``_`` for each space."""
    return octets.translate(_WORD).decode("ascii")


def printable(text: str) -> str:
    """Text fit for one line of the log: newline is ``/``, anything else that is not printable ASCII is ``?``."""
    return text.encode("utf-8", "replace").translate(_PRINTABLE).decode("ascii")


class Log:
    """A role's log. ``sink`` is a datagram socket or a descriptor; ``format`` is ``qmail`` or ``json``.

    Before ``attach`` every line is written at once. The dedicated methods are the forms of qmail-log(5); everything
    else is an ``event``. Nothing here raises for the sink's sake.
    """

    def __init__(self, role: str, sink: socket.socket | int, format: str = "qmail") -> None:
        self._role = role
        self._write: Callable[[bytes], int] = (
            sink.send if isinstance(sink, socket.socket) else lambda data: os.write(sink, data)
        )
        self._limit = DATAGRAM if isinstance(sink, socket.socket) else KEPT
        self._loop: asyncio.AbstractEventLoop | None = None
        self._names: list[tuple[str, str]] = []
        self._lines: list[str] = []
        self._time = 0.0
        self._unsent = b""
        self._lost = 0
        self._retry: asyncio.TimerHandle | None = None
        self.configure(format)

    def configure(self, format: str) -> None:
        """Write lines in this form from now on."""
        self.flush()
        self._json = format == "json"
        self._add = self._add_record if self._json else self._add_line

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on join the lines of each turn of ``loop``."""
        self._loop = loop

    def translate(self, seen: str, real: str) -> None:
        """From now on, too, name what this process sees below the path ``seen`` as everybody else knows it, below
        ``real``."""
        self._names.append((f"{seen}/", f"{real}/"))

    def forked(self) -> None:
        """Call in a forked child: pending lines are the parent's, and there is no loop any more."""
        self._loop = None
        self._retry = None
        self._lines.clear()
        self._unsent = b""
        self._lost = 0

    def flush(self) -> None:
        """Write what is pending; called once per turn, and by a role before it ends."""
        lines, self._lines = self._lines, []
        if lines:
            between = "\n" if self._json else f"\n{self._time:.6f} "
            first = between[1:]
            self._deliver((first + between.join(lines) + "\n").encode("utf-8", "replace"))
        elif self._unsent:
            self._deliver(b"")

    # Lines of qmail-send, in the order in which a message causes them.

    def status(
        self, local: int, concurrencylocal: int, remote: int, concurrencyremote: int, end: bool = False
    ) -> None:
        """Deliveries under way and their limits. ``end``: no new ones are started because we are to stop."""
        text = f"status: local {local}/{concurrencylocal} remote {remote}/{concurrencyremote}"
        self._add(
            text + " exitasap" if end else text,
            "status",
            {
                "local": local,
                "concurrencylocal": concurrencylocal,
                "remote": remote,
                "concurrencyremote": concurrencyremote,
            },
        )

    def new_message(self, message: int) -> None:
        self._add(f"new msg {message}", "new", {"message": message})

    def info(self, message: int, size: int, sender: bytes, qp: int, uid: int) -> None:
        """``size`` in octets; ``qp`` is the injecting process's id, ``uid`` its user."""
        text = f"info msg {message}: bytes {size} from <{safe(sender)}> qp {qp} uid {uid}"
        self._add(text, "info", {"message": message, "bytes": size, "sender": sender, "qp": qp, "uid": uid})

    def starting(self, delivery: int, message: int, channel: str, recipient: bytes) -> None:
        """``channel`` is ``local`` or ``remote``; ``delivery`` counts from 1 since the start."""
        text = f"starting delivery {delivery}: msg {message} to {channel} {safe(recipient)}"
        fields = {"delivery": delivery, "message": message, "channel": channel, "recipient": recipient}
        self._add(text, "starting", fields)

    def result(self, delivery: int, outcome: Outcome) -> None:
        event = _WORDS[outcome.verdict]
        report = safe(outcome.text.encode("utf-8", "replace"))
        said = "report mangled, will defer" if outcome is MANGLED else f"{event}: {report}"
        self._add(f"delivery {delivery}: {said}", event, {"delivery": delivery, "outcome": outcome})

    def bounce(self, message: int, notice: int) -> None:
        """``notice`` is the new message's id."""
        self._add(f"bounce msg {message} qp {notice}", "bounce", {"message": message, "notice": notice})

    def discarding(self, message: int, bounce: str) -> None:
        """What failed gets no notice: ``bounce``, ``double`` or ``triple``, is what that would have been."""
        self._add(f"{bounce} bounce: discarding bounce/{message}", f"{bounce} bounce", {"message": message})

    def end(self, message: int) -> None:
        self._add(f"end msg {message}", "end", {"message": message})

    def administrator(self, user: str, action: str, message: int) -> None:
        """``action`` as in ``ekiden queue``; ``user`` is who asked for it."""
        fields = {"user": user, "action": action, "message": message}
        self._add(f"administrator {user}: {action} msg {message}", "administrator", fields)

    def exiting(self) -> None:
        """The last line of the role that queues; written at once."""
        self._add("status: exiting", "exiting", {})
        self.flush()

    # Everything else.

    def refusal(self, client: str, how: str, sender: bytes, recipient: bytes, reply: Reply, **fields: Any) -> None:
        """A client's wish was not granted; ``how`` tells its protocol, or what it calls itself.

        What the client has said has no spaces in the line, so that it cannot pass for other parts of it.
        """
        sent, to = word(sender), word(recipient)
        self.event(
            "refuse",
            f"refuse: {client} {how} from <{sent}> to <{to}>: {reply.code} {reply.status} {reply.text}",
            client=client,
            **fields,
            sender=sender,
            recipient=recipient,
            code=reply.code,
            status=reply.status,
            reason=reply.text,
        )

    def warning(self, text: str, **fields: Any) -> None:
        """Something went wrong and will be tried again or done without."""
        self.event("warning", "warning: " + text, **fields)

    def alert(self, text: str, **fields: Any) -> None:
        """Something that a person must look at."""
        self.event("alert", "alert: " + text, **fields)

    def fault(self, whose: str, error: BaseException, **fields: Any) -> None:
        """A fault of ours, which ended something; with the places in the program that led to it, the last first."""
        import traceback

        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(frames))
        self.alert(f"{whose}: {type(error).__name__}: {error}" + (f" ({where})" if where else ""), **fields)

    def event(self, name: str, text: str, **fields: Any) -> None:
        """One line: ``text`` in the form ``qmail``; an object with all fields in the form ``json``."""
        for seen, real in self._names:
            text = text.replace(seen, real)
        self._add(printable(text), name, fields)

    def _add_line(self, text: str, _name: str, _fields: dict[str, Any]) -> None:
        if not self._lines:
            self._wake()
        self._lines.append(text)
        if self._loop is None:
            self.flush()

    def _add_record(self, text: str, name: str, fields: dict[str, Any]) -> None:
        if not self._lines:
            self._wake()
        record = {"time": round(self._time, 6), "role": self._role, "event": name}
        record.update(_plain(fields))
        record["text"] = text
        self._lines.append(msgspec.json.encode(record).decode())
        if self._loop is None:
            self.flush()

    def _wake(self) -> None:
        """The first line of a while: all lines of it bear its time, and leave together."""
        self._time = time.time()
        if self._loop is not None:
            self._loop.call_later(TOGETHER, self.flush)

    def _deliver(self, data: bytes) -> None:
        if self._unsent:
            if len(self._unsent) + len(data) > KEPT:
                self._lost += data.count(b"\n")
                data = b""
            data = self._unsent + data
            self._unsent = b""
        try:
            while data:
                end = _border(data, self._limit)
                data = data[self._write(data[:end]) :]
        except OSError:
            self._unsent = data
            if self._loop is not None and self._retry is None:
                self._retry = self._loop.call_later(RETRY, self._again)
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.warning(f"{lost} lines of the log are lost", lost=lost)

    def _again(self) -> None:
        self._retry = None
        self.flush()


class PlainLog(Log):
    """Lines without time stamps, as qmail-send writes them: whoever reads them, such as splogger, has stamps."""

    def configure(self, format: str) -> None:
        """Nothing: their form does not change."""
        super().configure("qmail")

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines or self._unsent:
            self._deliver("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def _plain(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields with octets as text, and an outcome's own fields in its place."""
    for key, value in fields.items():
        if isinstance(value, bytes):
            yield key, value.decode("utf-8", "backslashreplace")
        elif isinstance(value, str):
            yield key, _encodable(value)
        elif isinstance(value, Outcome):
            yield "status", value.status
            for name, text in (("report", value.text), ("remote", value.remote), ("reply", value.reply)):
                yield name, _encodable(text)
        else:
            yield key, value


def _encodable(text: str) -> str:
    """Text without lone surrogates, which stand for octets that were not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _border(data: bytes, limit: int) -> int:
    """Where to cut ``data`` so that the first piece has at most ``limit`` octets and, if possible, whole lines."""
    if len(data) <= limit:
        return len(data)
    return data.rfind(b"\n", 0, limit) + 1 or limit

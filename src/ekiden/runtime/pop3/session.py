"""One client with one open mailbox: the POP3 engine driven in turn over descriptors.

A process does nothing else meanwhile, so that reading a mailbox may take as long as it takes.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from ekiden.mailstore.maildrop import BLOCK, MailboxError, Maildrop
from ekiden.runtime.pop3.stream import Gone, Silent, Stream
from ekiden.wire.pop3.content import END, pieces, top, whole
from ekiden.wire.pop3.events import Event, Listing, Retrieve, Stat, Update
from ekiden.wire.pop3.server import Server

_TOGETHER = 131_072
"""Octets of answers to pipelined commands that are kept to leave together."""


class Stopping(Exception):
    """This process is to end, and waits for the client's next command."""


class Session:
    """``server`` is in its transaction state; ``blank_line``: end every message with one (qmail-pop3d(8)).

    ``retrieved`` and ``removed`` count messages, ``sent`` octets, for the log.
    """

    def __init__(self, server: Server, drop: Maildrop, stream: Stream, blank_line: bool = False) -> None:
        self.retrieved = self.removed = self.sent = 0
        self._server = server
        self._drop = drop
        self._stream = stream
        self._blank = b"\r\n" if blank_line else b""
        self._waiting = 0

    def serve(self) -> str:
        """Serve until the client leaves; how it ended, for the log."""
        try:
            return self._serve()
        except Gone as error:
            return str(error)
        except Silent:
            return self._dismiss("idle for too long")
        except Stopping:
            return self._dismiss("shutting down, come back later", "SYS/TEMP")
        finally:
            self._drop.close()

    def _serve(self) -> str:
        server = self._server
        while True:
            event = server.next_event()
            if event is None:
                self._flush()
                data = self._stream.read()
                if not data:
                    return "connection closed without QUIT"
                server.receive(data)
            elif (handler := _HANDLERS.get(type(event))) is not None:
                handler(self, event)
            else:
                self._flush()
                return event.reason  # type: ignore[attr-defined, no-any-return]

    def _dismiss(self, text: str, code: str = "") -> str:
        self._server.farewell(text, text, code)
        try:
            self._flush()
        except Gone:
            return text + ", connection lost"
        return text

    def _flush(self) -> None:
        self._send(self._server.output())
        self._waiting = 0

    def _send(self, data: bytes) -> None:
        if data:
            self._stream.write(data)
            self.sent += len(data)

    def _say(self, answer: bytes) -> None:
        self._server.answer(answer)
        self._waiting += len(answer)
        if self._waiting > _TOGETHER:
            self._flush()

    # Events.

    def _guarded(self, answer: Callable[[Any], None], event: Event) -> None:
        try:
            answer(event)
        except MailboxError as error:
            self._server.refuse(error.text, error.code)

    def _stat(self, _event: Stat) -> None:
        sizes = self._sizes()
        deleted = self._server.deleted
        octets = sum(sizes) - sum(sizes[number - 1] for number in deleted)
        self._say(b"+OK %d %d\r\n" % (len(sizes) - len(deleted), octets))

    def _sizes(self) -> list[int]:
        more = len(self._blank)
        return [size + more for size in self._drop.sizes()] if more else list(self._drop.sizes())

    def _listing(self, event: Listing) -> None:
        values: Any = self._drop.uids() if event.unique else self._sizes()
        form = b"%d %b\r\n" if event.unique else b"%d %d\r\n"
        if event.number:
            self._say(b"+OK " + form % (event.number, values[event.number - 1]))
            return
        deleted = self._server.deleted
        lines = [form % entry for entry in enumerate(values, 1) if entry[0] not in deleted]
        self._say(b"+OK\r\n%b.\r\n" % b"".join(lines))

    def _retrieve(self, event: Retrieve) -> None:
        message = self._drop.read(event.number)
        first = next(message, b"")
        if len(first) < BLOCK:
            content = whole(first) if event.lines < 0 else b"".join(pieces(top([first], event.lines)))
            self._say(b"+OK\r\n%b%b%b" % (content, self._blank, END))
        else:
            self._stream_out(itertools.chain([first], message), event.lines)
        self.retrieved += event.lines < 0

    def _stream_out(self, message: Iterator[bytes], lines: int) -> None:
        """A long message, a piece at a time."""
        self._flush()
        self._send(b"+OK\r\n")
        try:
            for piece in pieces(message if lines < 0 else top(message, lines)):
                self._send(piece)
        except MailboxError as error:
            # Half of it is on its way, and there are no words in the protocol for that.
            raise Gone(f"unable to go on with a message: {error.text}") from None
        self._server.answer(self._blank + END)

    def _update(self, event: Update) -> None:
        self._drop.update(event.deleted)
        self.removed = len(event.deleted)
        # Before the answer: the next session, which may come at once, finds the lock free and what was learned.
        self._drop.close()
        self._server.answer()


_HANDLERS: Mapping[type[Event], Callable[[Session, Any], None]] = {
    Stat: lambda session, event: session._guarded(session._stat, event),
    Listing: lambda session, event: session._guarded(session._listing, event),
    Retrieve: lambda session, event: session._guarded(session._retrieve, event),
    Update: lambda session, event: session._guarded(session._update, event),
}


def stop_when_idle(stream: Stream) -> None:
    """Have TERM end the session as soon as it waits for the client: at once, or after the command at hand."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stream.waiting:
            raise Stopping
        # Try again in a while.
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, stop)

"""Drives the engines of the netstring protocols: every question answered by a rule, what was said written down."""

from __future__ import annotations

from collections.abc import Iterable

from ekiden.base.reply import Reply
from ekiden.wire.netstring_session import Content, Ended, EndOfMessage, NetstringSession, Rcpt, Refusal, Reset, Sender

REFUSED = Reply(553, "5.7.1", "no (#5.7.1)")
LATER = Reply(451, "4.3.0", "later")


class Driven:
    """``messages`` are the accepted ones: content, sender, recipients. An address that begins with ``no`` is refused,
    a message whose content has ``later`` in it is put off."""

    def __init__(self, session: NetstringSession, pieces: Iterable[bytes]) -> None:
        self.messages: list[tuple[bytes, bytes, list[bytes]]] = []
        self.output = b""
        self.fault: str | None = None
        self.ended = False
        self._session = session
        self._content, self._sender, self._rcpts = b"", b"", list[bytes]()
        for piece in pieces:
            session.receive(piece)
            while self._step():
                pass
            self.output += session.output()

    def _step(self) -> bool:
        session = self._session
        event = session.next_event()
        match event:
            case None:
                return False
            case Content(chunk):
                assert chunk
                self._content += chunk
            case Reset():
                self._content = b""
            case Sender(address):
                self._sender, self._rcpts = address, []
                self._judge(address)
            case Rcpt(address):
                if self._judge(address):
                    self._rcpts.append(address)
            case EndOfMessage():
                self._end()
            case Ended(fault):
                self.ended = True
                self.fault = str(fault) if fault else ""
            case Refusal():
                pass
        return True

    def _judge(self, address: bytes) -> bool:
        if address.startswith(b"no"):
            self._session.reply(REFUSED)
            return False
        self._session.accept()
        return True

    def _end(self) -> None:
        if b"later" in self._content:
            self._session.reply(LATER)
        else:
            self.messages.append((self._content, self._sender, self._rcpts))
            self._session.accept(b"ok %d" % len(self.messages))
        self._content, self._rcpts = b"", []


def octets(data: bytes) -> list[bytes]:
    """The data byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


def texts(data: bytes) -> list[bytes]:
    """What is in netstrings that follow each other."""
    found = []
    while data:
        length, _colon, data = data.partition(b":")
        found.append(data[: int(length)])
        assert data[int(length) : int(length) + 1] == b","
        data = data[int(length) + 1 :]
    return found

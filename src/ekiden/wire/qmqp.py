"""QMQP server engine (cr.yp.to/proto/qmqp.html): octets in, events and octets out; no socket, no clock.

A client sends one netstring that holds netstrings: the message, whose lines end with LF, the sender, each recipient.
It is answered by one netstring for all, which ends the session. The shell's contract is told in netstring_session.py.
"""

from __future__ import annotations

from ekiden.wire.carriage import add_cr
from ekiden.wire.netstring import Oversized
from ekiden.wire.netstring_session import (
    BAD_RECIPIENT,
    BAD_SENDER,
    RECIPIENTS,
    TOO_LARGE,
    Content,
    EndOfMessage,
    NetstringSession,
    Rcpt,
    Sender,
    Steps,
    answer,
)


class Session(NetstringSession):
    """One client's session. ``size_limit``: octets of the message, 0 for no limit."""

    def __init__(self, size_limit: int = 0) -> None:
        super().__init__()
        self._size_limit = size_limit

    def _parse(self) -> Steps:
        self._input.enter((yield from self._input.length()))
        self.idle = False
        yield from self._content()
        address = yield from self._input.address()
        if address is None:
            yield from self._refuse(BAD_SENDER)
        else:
            yield from self._ask_of_message(Sender(address))
        yield from self._rcpts()
        yield from self._input.leave()
        if self._refusal is None:
            yield EndOfMessage()
            self._refusal = self._verdict
        self._out.append(answer(self._said, self._refusal))

    def _content(self) -> Steps:
        left = yield from self._input.length()
        if left > self._size_limit > 0:
            yield from self._refuse(TOO_LARGE)
        while left:
            piece = yield from self._input.some(left)
            left -= len(piece)
            if self._refusal is None:
                yield Content(add_cr(piece))
        yield from self._input.comma()

    def _rcpts(self) -> Steps:
        count = 0
        while self._input.left:
            address = yield from self._input.address()
            count += 1
            if count > RECIPIENTS:
                raise Oversized(f"a message has more than {RECIPIENTS} recipients")
            if address is None:
                yield from self._refuse(BAD_RECIPIENT)
            else:
                yield from self._ask_of_message(Rcpt(address))

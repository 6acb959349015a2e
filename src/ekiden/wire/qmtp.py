"""QMTP server engine (cr.yp.to/proto/qmtp.txt): octets in, events and octets out; no socket, no clock.

A client sends packages: a netstring of the message, one of the sender, one that holds a netstring for each recipient.
Each recipient is answered by a netstring of its own. The message's first octet says how its lines end: LF (10) or
CR LF (13); with the latter a lone LF ends a line as well, and a lone CR ends none. The shell's contract is told in
netstring_session.py.
"""

from __future__ import annotations

from ekiden.base.reply import Reply
from ekiden.wire.carriage import Remover, add_cr
from ekiden.wire.netstring import Malformed, Oversized
from ekiden.wire.netstring_session import (
    BAD_RECIPIENT,
    BAD_SENDER,
    RECIPIENTS,
    TOO_LARGE,
    Content,
    EndOfMessage,
    NetstringSession,
    Rcpt,
    Reset,
    Sender,
    Steps,
    answer,
)

TOO_MANY = Reply(452, "4.5.3", "too many recipients")


class Session(NetstringSession):
    """One client's session. ``size_limit``: octets of a message whose lines end with LF, 0 for no limit.

    ``recipients``: most of one message that are asked about; what comes after them is to be tried again.
    """

    def __init__(self, size_limit: int = 0, recipients: int = RECIPIENTS) -> None:
        super().__init__()
        self._size_limit = size_limit
        self._recipients = recipients
        self._taken = 0
        self._answers: list[bytes | None] = []

    def _parse(self) -> Steps:
        while True:
            self.idle = True
            size = yield from self._input.length()
            self.idle = False
            self._refusal, self._taken, self._answers = None, 0, []
            yield from self._content(size)
            yield from self._sender()
            yield from self._rcpts()
            yield from self._end()

    def _content(self, size: int) -> Steps:
        if not size:
            raise Malformed("a message does not say how its lines end")
        ending = yield from self._input.exactly(1)
        if ending not in _LINE_ENDS:
            raise Malformed("a message does not say how its lines end")
        remover = Remover() if ending == b"\r" else None
        stored, left = 0, size - 1
        while left:
            piece = yield from self._input.some(left)
            left -= len(piece)
            if remover is not None:
                piece = remover.feed(piece) + (b"" if left else remover.finish())
            stored += len(piece)
            if stored > self._size_limit > 0:
                yield from self._refuse(TOO_LARGE)
            elif piece:
                yield Content(add_cr(piece))
        yield from self._input.comma()

    def _sender(self) -> Steps:
        address = yield from self._input.address()
        if address is None:
            yield from self._refuse(BAD_SENDER)
        else:
            yield from self._ask_of_message(Sender(address))

    def _rcpts(self) -> Steps:
        self._input.enter((yield from self._input.length()))
        while self._input.left:
            address = yield from self._input.address()
            if len(self._answers) >= RECIPIENTS:
                raise Oversized(f"a message has more than {RECIPIENTS} recipients")
            if address is None:
                self._answers.append(answer(b"", BAD_RECIPIENT))
            elif self._taken >= self._recipients:
                self._answers.append(_TRY_LATER)
            else:
                yield Rcpt(address)
                self._answers.append(answer(b"", self._verdict) if self._verdict else None)
                self._taken += not self._verdict
        yield from self._input.leave()

    def _end(self) -> Steps:
        if self._refusal is None and self._taken:
            yield EndOfMessage()
            self._refusal = self._verdict
        else:
            yield Reset()
        said = answer(self._said, self._refusal)
        self._out += (said if own is None else own for own in self._answers)


_TRY_LATER = answer(b"", TOO_MANY)

_LINE_ENDS = frozenset({b"\n", b"\r"})
"""A message's first octet: its lines end with LF, or with CR LF."""

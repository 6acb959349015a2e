"""What happens to a QMTP or QMQP client's wishes: the engine's events, the policy's answers, the way into the queue.

Everything but the transport, as ``reception`` is for SMTP: the shell gives octets to ``server``, calls ``proceed``
and sends what ``server.output()`` holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ekiden.base.envelope import Body, Envelope, Origin, Recipient
from ekiden.base.header import hops
from ekiden.base.reply import Refused, Reply
from ekiden.runtime.frames import Accepted, Rejected
from ekiden.runtime.receiving import LOOPING, Caller, beginning
from ekiden.runtime.trace import received
from ekiden.wire.netstring_session import (
    Content,
    Ended,
    EndOfMessage,
    Event,
    NetstringSession,
    Rcpt,
    Refusal,
    Reset,
    Sender,
)

if TYPE_CHECKING:
    from ekiden.policy.acceptance import Acceptance
    from ekiden.runtime.classic.deposit_blocking import Depositing


class Shell(Protocol):
    """What a reception needs of its transport."""

    def ready(self) -> None:
        """Call ``proceed`` and send the output; input that waited may be wanted again."""

    def ended(self) -> None:
        """Send the output, then close."""


class Desk:
    """What all sessions of a process share.

    ``acceptance`` is None where every client may send everything (QMQP). ``mark`` gives the field that stands before
    the one that says where the message is from. ``refused`` logs: client, reply, sender, recipient.
    """

    def __init__(
        self,
        protocol: str,
        acceptance: Acceptance | None,
        deposits: Callable[[Callable[[], None]], Depositing],
        hopsmax: int,
        by: bytes,
        pid: int,
        uid: int,
        mark: Callable[[], bytes],
        refused: Callable[[str, Reply, bytes, bytes], None],
    ) -> None:
        self.protocol = protocol
        self.acceptance = acceptance
        self.deposits = deposits
        self.hopsmax = hopsmax
        self.by = by
        self.pid = pid
        self.uid = uid
        self.mark = mark
        self.refused = refused


class NetstringReception:
    """One client's session."""

    def __init__(self, desk: Desk, caller: Caller, shell: Shell, server: NetstringSession) -> None:
        self.server = server
        self.fault: Exception | None = None
        self._desk = desk
        self._caller = caller
        self._shell = shell
        self._begin()
        self._deposit: Depositing | None = None

    @property
    def full(self) -> bool:
        """Whether to stop reading: an answer is owed and enough waits for it, or content cannot be put away yet."""
        return self.server.choked or (self._deposit is not None and self._deposit.full)

    def proceed(self) -> None:
        """Deal with everything that was received as far as it can be dealt with now."""
        while (event := self.server.next_event()) is not None:
            self._handle(event)

    def drop(self) -> None:
        """There will be no message."""
        if self._deposit is not None:
            self._deposit.abort()
            self._deposit = None
        self._begin()

    def lost(self) -> None:
        """The client is gone."""
        self.drop()

    def _begin(self) -> None:
        self._sender = b""
        self._recipients: list[bytes] = []
        self._header = b""
        self._eight_bit = False

    def _handle(self, event: Event) -> None:
        if isinstance(event, Content):
            if self._deposit is None:
                self._sender = b""
            self._put(event.chunk)
        elif isinstance(event, Rcpt):
            self._rcpt(event.address)
        elif isinstance(event, Sender):
            self._from(event.address)
        elif isinstance(event, EndOfMessage):
            self._end_of_message()
        elif isinstance(event, Reset):
            # The recipients of a sender that was refused are still to come, and their refusals name it.
            sender = self._sender
            self.drop()
            self._sender = sender
        elif isinstance(event, Refusal):
            self._log(event.reply)
        elif isinstance(event, Ended):
            self.fault = event.fault
            self.drop()
            self._shell.ended()

    def _put(self, chunk: bytes) -> None:
        if self._deposit is None:
            self._deposit = self._desk.deposits(self._shell.ready)
            self._deposit.write(self._desk.mark() + self._trace())
        self._eight_bit = self._eight_bit or not chunk.isascii()
        self._header = beginning(self._header, chunk)
        if chunk:
            self._deposit.write(chunk)

    def _trace(self) -> bytes:
        caller, desk = self._caller, self._desk
        return received(desk.protocol.encode(), desk.by, caller.name, caller.info, caller.address, time.time())

    def _from(self, address: bytes) -> None:
        acceptance = self._desk.acceptance
        self._sender = address
        try:
            self._sender = acceptance.sender(address) if acceptance is not None else address
        except Refused as refused:
            self._refuse(refused.reply)
        else:
            self.server.accept()

    def _rcpt(self, address: bytes) -> None:
        acceptance = self._desk.acceptance
        try:
            accepted = acceptance.recipient(address, self._caller.policy) if acceptance is not None else address
        except Refused as refused:
            self._refuse(refused.reply, address)
        else:
            self._recipients.append(accepted)
            self.server.accept()

    def _end_of_message(self) -> None:
        self._put(b"")
        deposit, self._deposit = self._deposit, None
        assert deposit is not None
        if hops(self._header) >= self._desk.hopsmax:
            deposit.abort()
            self._refuse(LOOPING, *self._recipients)
            self._begin()
            return
        # Kept for ``drop``, because a large message may still be on its way to the disk.
        self._deposit = deposit
        deposit.commit(self._envelope(), self._origin(), self._answered)

    def _envelope(self) -> Envelope:
        addresses = (self._sender, *self._recipients)
        return Envelope(
            self._sender,
            [Recipient(address) for address in self._recipients],
            Body.EIGHTBIT if self._eight_bit else Body.SEVENBIT,
            not all(map(bytes.isascii, addresses)),
        )

    def _origin(self) -> Origin:
        desk = self._desk
        return Origin(desk.protocol, desk.pid, desk.uid, self._caller.address)

    def _receipt(self, message: int) -> bytes:
        """By what the log knows the message."""
        return b"qp %d" % message

    def _answered(self, answer: Accepted | Rejected) -> None:
        """The queue has spoken; nobody is told if the client is gone meanwhile."""
        self._deposit = None
        if self.server.answering:
            if isinstance(answer, Accepted):
                self.server.accept(b"ok %d %b" % (time.time(), self._receipt(answer.message)))
            else:
                self._refuse(Reply(answer.code, answer.status, answer.text), *self._recipients)
            self._begin()
            self._shell.ready()

    def _refuse(self, reply: Reply, *recipients: bytes) -> None:
        self.server.reply(reply)
        self._log(reply, *recipients)

    def _log(self, reply: Reply, *recipients: bytes) -> None:
        """A line for each recipient, who may be asked about."""
        for recipient in recipients or (b"",):
            self._desk.refused(self._caller.address, reply, self._sender, recipient)

"""What happens to an SMTP client's wishes: the engine's events, the policy's answers, the way into the queue.

Everything but the transport: the shell gives octets to ``server``, calls ``proceed`` and sends what
``server.output()`` holds. It is told (``Shell``) when an answer or room for content came, when TLS or the end is due.
One ``Desk`` serves all sessions of a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from ekiden.base.envelope import Envelope, Origin
from ekiden.base.header import hops
from ekiden.base.reply import Refused, Reply
from ekiden.policy.acceptance import Acceptance, ClientPolicy
from ekiden.runtime.deposit import Deposit
from ekiden.runtime.frames import Accepted, Rejected
from ekiden.runtime.log import Log, word
from ekiden.runtime.receiving import LOOPING, Caller, beginning
from ekiden.runtime.trace import invoked, received
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.events import (
    Content,
    DataBegins,
    Ended,
    EndOfMessage,
    Event,
    Hello,
    Mail,
    Rcpt,
    Refusal,
    Reset,
    StartTls,
)
from ekiden.wire.smtp.lmtp import LmtpServer
from ekiden.wire.smtp.profile import Profile
from ekiden.wire.smtp.replies import TOO_MANY_RECIPIENTS
from ekiden.wire.smtp.server import Server

if TYPE_CHECKING:
    from ekiden.runtime.intake import Intake
    from ekiden.runtime.passwords.client import Passwords

_LOST = Reply(421, "4.4.2", "connection lost before the message was complete")


class Shell(Protocol):
    """What a reception needs of its transport."""

    def ready(self) -> None:
        """Call ``proceed`` and send the output; input that waited may be wanted again."""

    def start_tls(self) -> None:
        """Send the output, make the handshake, then call ``server.secured``."""

    def ended(self) -> None:
        """Send the output, then close."""


class Client(Caller):
    """Who is connected, and what the engine is to do for it."""

    __slots__ = ("profile",)

    def __init__(
        self, address: str, policy: ClientPolicy, profile: Profile, name: bytes = b"", info: bytes = b""
    ) -> None:
        super().__init__(address, policy, name, info)
        self.profile = profile


class Desk:
    """What all sessions share."""

    def __init__(
        self,
        settings: Settings,
        acceptance: Acceptance,
        intake: Intake,
        log: Log,
        passwords: Passwords | None = None,
    ) -> None:
        self.settings = settings
        self.acceptance = acceptance
        self.intake = intake
        self.log = log
        self.passwords = passwords
        self.pid = os.getpid()
        self.uid = os.getuid()
        self.by = settings.me


class Reception:
    """One client's session."""

    __slots__ = (
        "_client",
        "_crowded",
        "_deposit",
        "_desk",
        "_envelope",
        "_header",
        "_helo",
        "_protocol",
        "_shell",
        "_token",
        "server",
    )

    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]] = {}

    def __init__(self, desk: Desk, client: Client, shell: Shell, secured: bool = False) -> None:
        self.server = (LmtpServer if client.profile.lmtp else Server)(client.profile, secured)
        self._desk = desk
        self._client = client
        self._shell = shell
        self._helo = b""
        self._protocol = "SMTP"
        self._envelope: Envelope | None = None
        self._crowded: Envelope | None = None
        self._deposit: Deposit | None = None
        self._header = b""

    @property
    def full(self) -> bool:
        """Whether to stop reading: an answer is owed and enough waits for it, or content cannot be put away yet."""
        return self.server.choked or (self._deposit is not None and self._deposit.full)

    def proceed(self) -> None:
        """Deal with everything that was received as far as it can be dealt with now."""
        next_event, handlers = self.server.next_event, self.handlers
        event = next_event()
        while event is not None:
            handlers[type(event)](self, event)
            event = next_event()

    def drop(self) -> None:
        """The transaction is over without a message; also when the client is gone."""
        if self._deposit is not None:
            self._deposit.abort()
            self._deposit = None
        self._envelope = None
        self._header = b""

    def lost(self) -> None:
        """The client is gone. If the queue has the message, it is in the log as any other."""
        if self._envelope is not None and not self.server.answering:
            self._log_message(_LOST, self._envelope)
        self.drop()

    def _hello(self, event: Hello) -> None:
        self.drop()
        self._helo = event.name
        protocol = self.server.protocol.decode() if event.extended else "SMTP"
        self._protocol = protocol + "S" if event.extended and self.server.tls else protocol
        if self.server.authenticated:
            self._protocol = "ESMTPSA" if self.server.tls else "ESMTPA"
        self.server.accept()

    def _mail(self, event: Mail) -> None:
        envelope = event.envelope
        try:
            sender = self._desk.acceptance.sender(envelope.sender, self._client.policy.login)
        except Refused as refused:
            self._refuse(refused.reply, envelope.sender, b"")
            return
        if sender != envelope.sender:
            envelope = msgspec.structs.replace(envelope, sender=sender)
        self._envelope = envelope
        self.server.accept()

    def _rcpt(self, event: Rcpt) -> None:
        envelope, recipient = self._envelope, event.recipient
        assert envelope is not None
        try:
            address = self._desk.acceptance.recipient(recipient.address, self._client.policy)
        except Refused as refused:
            self._refuse(refused.reply, envelope.sender, recipient.address)
            return
        if address != recipient.address:
            recipient = type(recipient)(address, recipient.notify, recipient.orcpt)
        envelope.recipients.append(recipient)
        self.server.accept()

    def _data(self, _event: DataBegins) -> None:
        if not self._desk.intake.connected:
            assert self._envelope is not None
            self._refuse_message(Reply(451, "4.3.0", "queue unreachable, try again later"), self._envelope)
            return
        self.server.accept()

    def _content(self, event: Content) -> None:
        self._header = beginning(self._header, event.chunk)
        self._put(event.chunk)

    def _put(self, chunk: bytes) -> Deposit:
        deposit = self._deposit
        if deposit is None:
            deposit = self._deposit = Deposit(self._desk.intake, self._shell.ready)
            deposit.write(self._trace())
        if chunk:
            deposit.write(chunk)
        return deposit

    def _end_of_message(self, event: EndOfMessage) -> None:
        envelope = self._envelope
        assert envelope is not None
        if self._header:
            self._header = beginning(self._header, event.chunk)
        looping = hops(self._header or event.chunk) >= self._desk.settings.hopsmax
        deposit = self._put(event.chunk)
        self._header = b""
        if looping:
            self.drop()
            self._refuse_message(LOOPING, envelope)
            return
        desk, client = self._desk, self._client
        origin = Origin(self._label(envelope), desk.pid, desk.uid, client.address, self._helo)
        deposit.commit(envelope, origin, self._answered)

    def _answered(self, answer: Accepted | Rejected) -> None:
        """The queue has spoken; nobody is told if the client is gone meanwhile."""
        self._deposit = None
        envelope, self._envelope = self._envelope, None
        if envelope is None or not self.server.answering:
            return
        if isinstance(answer, Accepted):
            self.server.accept(b"250 2.0.0 ok %d %b\r\n" % (time.time(), self._receipt(answer.message)))
        else:
            self._refuse_message(Reply(answer.code, answer.status, answer.text), envelope)
        self._shell.ready()

    def _receipt(self, message: int) -> bytes:
        """By what the log knows the message; ``qp`` alone would name all messages of this process."""
        return b"qp %d msg %d" % (self._desk.pid, message)

    def _reset(self, _event: Reset) -> None:
        self.drop()

    def _refusal(self, event: Refusal) -> None:
        envelope = self._envelope
        if envelope is None:
            self._log(event.reply, event.sender, event.recipient)
        elif event.transaction_over:
            self._log_message(event.reply, envelope)
            self.drop()
        elif event.reply is not TOO_MANY_RECIPIENTS:
            self._log(event.reply, envelope.sender, event.recipient)
        elif envelope is not self._crowded:
            # Nobody is sent away for them, so that a line for each would let one client replace the whole log.
            self._crowded = envelope
            self._log(event.reply, envelope.sender, event.recipient)

    def _start_tls(self, _event: StartTls) -> None:
        self.server.accept()
        self.drop()
        self._helo = b""
        self._protocol = "SMTP"
        self._shell.start_tls()

    def _ended(self, _event: Ended) -> None:
        if self._envelope is not None:
            # Who leaves with QUIT has thought better of it.
            self.drop()
        self._shell.ended()

    def _refuse(self, reply: Reply, sender: bytes, recipient: bytes) -> None:
        self.server.reply(reply)
        self._log(reply, sender, recipient)

    def _refuse_message(self, reply: Reply, envelope: Envelope) -> None:
        self.server.reply(reply)
        self._log_message(reply, envelope)

    def _log_message(self, reply: Reply, envelope: Envelope) -> None:
        """A line for each recipient, who may be asked about."""
        for address in [recipient.address for recipient in envelope.recipients] or [b""]:
            self._log(reply, envelope.sender, address)

    def _log(self, reply: Reply, sender: bytes, recipient: bytes) -> None:
        how = f"helo {word(self._helo) or '-'}"
        self._desk.log.refusal(self._client.address, how, sender, recipient, reply, helo=self._helo)

    def _label(self, envelope: Envelope) -> str:
        """The "with" protocol type (RFC 3848, RFC 6531 section 4.3)."""
        if envelope.smtputf8:
            protocol = "UTF8LMTP" if self.server.profile.lmtp else "UTF8SMTP"
            protocol = protocol + "S" if self.server.tls else protocol
            return protocol + "A" if self.server.authenticated else protocol
        return self._protocol

    def _trace(self) -> bytes:
        """The Received fields of qmail-queue and qmail-smtpd."""
        client, now = self._client, time.time()
        assert self._envelope is not None
        protocol = self._label(self._envelope).encode()
        return self._mark(now) + received(
            protocol, self._desk.by, client.name, client.info, client.address, now, self._helo
        )

    def _mark(self, now: float) -> bytes:
        return invoked(self._desk.pid, b"from network", now) + b"\r\n"


Reception.handlers = {
    Hello: Reception._hello,
    Mail: Reception._mail,
    Rcpt: Reception._rcpt,
    DataBegins: Reception._data,
    Content: Reception._content,
    EndOfMessage: Reception._end_of_message,
    Reset: Reception._reset,
    Refusal: Reception._refusal,
    StartTls: Reception._start_tls,
    Ended: Reception._ended,
}

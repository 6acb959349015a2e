"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033), as a machine over octets.

The shell's contract:

1. After connecting, give what arrives to ``receive``, then take events until ``next_event`` returns None, then send
   what ``output`` returns. The order of the last two does not matter.
2. ``StartTls``: send the output, make the TLS handshake, call ``tls_established``. If the handshake fails, ``lost``.
3. ``Ready``: call ``send`` with a message, or ``quit``.
4. ``WantContent``: give the content to ``content`` piece by piece and call ``content_end``.
5. ``Done``: the transaction's outcomes. In state READY the next ``send`` may follow, in CLOSED nothing may.
6. ``Lost``: the session ended before the server decided anything about the message. Another address or a new
   connection may be tried with the same message, without the risk of a duplicate.
7. When the connection ends or a timeout strikes, call ``lost``. The state says which timeout runs.

Which reply may come in which state is the table at the end. A reply that it does not have, or that cannot be read,
ends the session: Deferred. Pipelined or not, the replies run through the same states; only the time at which the
commands are sent differs (RFC 2920).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ekiden.base.envelope import Body, Envelope
from ekiden.base.outcome import Outcome, Verdict
from ekiden.wire.smtp import client_report as report
from ekiden.wire.smtp.client_command import mail_command, rcpt_command
from ekiden.wire.smtp.client_content import DotStuffer, stuff
from ekiden.wire.smtp.client_event import Done, Event, Lost, Ready, StartTls, State, WantContent, Wish
from ekiden.wire.smtp.client_opening import Opening
from ekiden.wire.smtp.client_reply import UnreadableError, reply_text

__all__ = ["Client", "Done", "Event", "Lost", "Ready", "StartTls", "State", "WantContent", "Wish"]

_WANT_CONTENT = WantContent()
_FOUR = ord("4")


class Client(Opening):
    """One session from its greeting to its end; see the module's contract."""

    _needs_reset = False
    """Whether the server still has the last transaction's sender."""
    _stuffer: DotStuffer | None = None

    # Set when a transaction begins.
    _count: int
    _places: Sequence[int]
    """In the envelope, of the recipients that are asked for; after the dot, with LMTP, of those accepted."""
    _position: int
    """Which of those places the next reply is about."""
    _heard: int
    _commands: list[bytes]
    """Without PIPELINING: what is still to be said, the next one last."""
    _content: bytes | None
    _size: int
    _chunked: bool
    _message: Outcome | None
    """What becomes of the message whatever else is said, as soon as that is known."""
    _refused: dict[int, Outcome]
    _answered: dict[int, Outcome]

    # What the shell calls

    def next_event(self) -> Event | None:
        """The next thing that happened, or None."""
        return self._events.popleft() if self._events else None

    def output(self) -> bytes:
        """What is to be sent now; empty if nothing."""
        output = self._output
        if len(output) == 1:
            return output.pop()
        joined = b"".join(output)
        output.clear()
        return joined

    def receive(self, data: bytes) -> None:
        """Take what was read from the connection."""
        reader = self._reader
        reader.feed(data)
        try:
            while self.state is not State.CLOSED:
                reply = reader.next_reply()
                if reply is None:
                    return
                self.replies += 1
                if reply[0] == _FOUR and reply.startswith(b"421") and self.state not in _ENDING_ANYWAY:
                    self.lost("", reply_text(reply))
                    return
                step = _TABLE[self.state].get(reply[0] - 48)
                if step is None:
                    self.lost("Its answer does not fit what was asked.", reply_text(reply))
                    return
                step(self, reply)
        except UnreadableError as error:
            self.lost(f"Connection ended because {error}.")

    def send(
        self, envelope: Envelope, content: bytes | None, size: int, body: int = Body.SEVENBIT, utf8: bool = False
    ) -> None:
        """Begin a transaction; only in state READY.

        ``content`` is None if it shall be asked for by WantContent; ``size`` is its octets in wire form, ``body``
        what it really holds (BINARY needs CHUNKING and BINARYMIME, and goes by BDAT), ``utf8`` whether anything needs
        SMTPUTF8. Whether the server can take such a message is the caller's to know beforehand; recipients that need
        what it does not offer are refused one by one.
        """
        self._count = len(envelope.recipients)
        self._commands = []
        self._position = 0
        self._heard = 0
        self._content = content
        self._size = size
        self._message = None
        self._refused = {}
        self._answered = {}
        self._chunked = body == Body.BINARY
        if self._reader.pending:
            self.lost("It spoke without being asked.")
            return
        commands = self._write_commands(envelope, body, utf8)
        if not self._places:
            self._finish(self._message or self._giving_up())
            return
        self.state = State.MAIL
        if self._needs_reset:
            commands.insert(0, b"RSET\r\n")
            self.state = State.RESET
            self._needs_reset = False
        if self.extensions.pipelining:
            self._output += commands
        else:
            commands.reverse()
            self._commands = commands
            self._say()

    def content(self, piece: bytes) -> None:
        """The next piece of the content; in state CONTENT."""
        self._output.append(piece if self._stuffer is None else self._stuffer.stuff(piece))

    def content_end(self) -> None:
        """The content is complete."""
        if self._stuffer is not None:
            self._output.append(self._stuffer.finish())
            self._stuffer = None
        self._enter_sent()

    def quit(self) -> None:
        """Take leave; in state READY."""
        self._output.append(b"QUIT\r\n")
        self.state = State.QUIT

    def lost(self, why: str = "", said: str = "") -> None:
        """The connection ended, or shall end: ``why`` is a sentence for the report, ``said`` the server's last."""
        state = self.state
        if state in _UNDECIDED:
            super().lost(why, said)
        elif state is State.QUIT:
            self.state = State.CLOSED
        elif state is not State.CLOSED:
            outcome = report.died(self._peer, self._remote, why, state is State.SENT, said)
            self._finish(self._message or outcome, State.CLOSED)

    def give_up(self, outcome: Outcome) -> None:
        """End the session in mid-content because the content cannot be read; ``outcome`` goes to all recipients."""
        self._finish(outcome, State.CLOSED)

    # The transaction

    def _write_commands(self, envelope: Envelope, body: int, utf8: bool) -> list[bytes]:
        """MAIL, RCPT and DATA; recipients that cannot be written are refused here, a sender refuses them all."""
        offered = self.extensions
        self._places = range(self._count)
        try:
            commands = [mail_command(envelope, self._size, body, utf8, offered)]
        except ValueError as error:
            self._message = report.impossible("5.1.7", f"Sender cannot be written in SMTP: {error}.", self._remote)
            self._places = ()
            return []
        for place, recipient in enumerate(envelope.recipients):
            if utf8 and not offered.smtputf8 and not recipient.address.isascii():
                text = "Remote host does not take addresses in other letters than ASCII (SMTPUTF8)."
                self._refused[place] = report.impossible("5.6.7", text, self._remote)
                continue
            try:
                commands.append(rcpt_command(recipient, offered))
            except ValueError as error:
                text = f"Recipient cannot be written in SMTP: {error}."
                self._refused[place] = report.impossible("5.1.3", text, self._remote)
        if self._refused:
            self._places = [place for place in self._places if place not in self._refused]
        if not self._chunked:
            commands.append(b"DATA\r\n")
        return commands

    def _say(self) -> None:
        """Without PIPELINING: the next command, now that the last one is answered."""
        if self._commands:
            self._output.append(self._commands.pop())

    def _reset(self, reply: bytes) -> None:
        self.state = State.MAIL
        self._say()

    def _mail_accepted(self, reply: bytes) -> None:
        self.state = State.RECIPIENT
        self._say()

    def _mail_refused(self, reply: bytes) -> None:
        what = f"Connected to {self._peer} but sender was rejected"
        if reply.startswith(b"530") and self.extensions.starttls and not self.secure:
            # It demands TLS, which it offers and which has failed: that is for now (RFC 3207 section 4).
            outcome = report.deferred(what, self._remote, reply, "7.0")
        else:
            outcome = report.refused(what, self._remote, reply)
        if self._commands:
            self._commands.clear()
            self._finish(outcome)
            return
        self._message = outcome
        self.state = State.RECIPIENT

    def _rcpt_accepted(self, reply: bytes) -> None:
        self._position += 1
        if self._message is None:
            self._heard = self._places[self._position - 1] + 1
        if self._position == len(self._places):
            self._recipients_done()
        else:
            self._say()

    def _rcpt_refused(self, reply: bytes) -> None:
        if self._message is None:
            what = f"{self._peer} does not like recipient"
            self._refused[self._places[self._position]] = report.refused(what, self._remote, reply)
        self._rcpt_accepted(reply)

    def _recipients_done(self) -> None:
        if self._message is None and len(self._refused) == self._count:
            self._message = self._giving_up()
        if self._message is None:
            self.state = State.DATA
            if self._chunked:
                self._send_chunk()
            else:
                self._say()
        elif self._commands or self._chunked:
            self._commands.clear()
            self._needs_reset = True
            self._finish(self._message)
        else:
            self.state = State.DATA

    def _giving_up(self) -> Outcome:
        verdict = max((outcome.verdict for outcome in self._refused.values()), default=Verdict.FAILED)
        status = "5.0.0" if verdict == Verdict.FAILED else "4.0.0"
        return Outcome(verdict, status, f"Giving up on {self._peer}.\n", self._remote)

    def _data_accepted(self, reply: bytes) -> None:
        if self._message is not None:
            # No recipient is valid, yet the server wants content: RFC 2920 section 3.1 says to send a lone dot.
            self._output.append(b".\r\n")
            self.state = State.VOID
        elif self._content is None:
            self._stuffer = DotStuffer()
            self.state = State.CONTENT
            self._events.append(_WANT_CONTENT)
        else:
            self._output.append(stuff(self._content))
            self._content = None
            self._enter_sent()

    def _data_refused(self, reply: bytes) -> None:
        self._needs_reset = True
        self._finish(self._message or report.refused(f"{self._peer} failed on DATA command", self._remote, reply))

    def _send_chunk(self) -> None:
        self._output.append(b"BDAT %d LAST\r\n" % self._size)
        if self._content is None:
            self.state = State.CONTENT
            self._events.append(_WANT_CONTENT)
        else:
            self._output.append(self._content)
            self._content = None
            self._enter_sent()

    def _void_ended(self, reply: bytes) -> None:
        assert self._message is not None
        self._finish(self._message)

    def _refused_early(self, reply: bytes) -> None:
        """A refusal in mid-content: it counts, but the server's place in our stream is unknown from here on."""
        outcome = report.refused(f"{self._peer} failed after I sent the message", self._remote, reply)
        self._finish(outcome, State.CLOSED)

    def _enter_sent(self) -> None:
        self.state = State.SENT
        self._position = 0
        if self._lmtp:
            self._places = [place for place in self._places if place not in self._refused]

    def _message_accepted(self, reply: bytes) -> None:
        self._answer(reply, report.accepted(self._peer, self._remote, reply, self.extensions.dsn))

    def _message_refused(self, reply: bytes) -> None:
        what = f"{self._peer} failed after I sent the message"
        self._answer(reply, report.refused(what, self._remote, reply))

    def _answer(self, reply: bytes, outcome: Outcome) -> None:
        """The reply after the dot: LMTP gives one per valid recipient (RFC 2033 section 4.2)."""
        if self._lmtp:
            self._answered[self._places[self._position]] = outcome
            self._position += 1
        if reply.startswith(b"421"):
            if self._lmtp and self._position < len(self._places):
                outcome = report.died(self._peer, self._remote, "", True, reply_text(reply))
            self._finish(outcome, State.CLOSED)
        elif not self._lmtp or self._position == len(self._places):
            self._finish(outcome)

    def _finish(self, message: Outcome, state: State = State.READY) -> None:
        """Put the outcomes together and end the transaction, with unasked-for octets also the session."""
        outcomes = [message] * self._count
        for place, outcome in self._answered.items():
            outcomes[place] = outcome
        for place, outcome in self._refused.items():
            outcomes[place] = report.with_giving_up(outcome, self._peer)
        if self._answered:
            message = self._sum_up(outcomes, message)
        self.state = State.CLOSED if self._reader.pending else state
        self._events.append(Done(outcomes, message, self._refused, self._heard))

    def _sum_up(self, outcomes: Sequence[Outcome], message: Outcome) -> Outcome:
        """The message's outcome where LMTP has several, with all who fared worse among the refused."""
        delivered = next((one for one in self._answered.values() if one.verdict == Verdict.DELIVERED), None)
        worse = range(self._count) if delivered is not None else self._answered
        for place in worse:
            if outcomes[place].verdict != Verdict.DELIVERED:
                self._refused.setdefault(place, outcomes[place])
        return delivered or message

    def _left(self, reply: bytes) -> None:
        self.state = State.CLOSED


_UNDECIDED = frozenset(range(State.MAIL + 1))
"""States in which a lost connection has decided nothing about a message."""

_ENDING_ANYWAY = frozenset({State.GREETING, State.EHLO, State.HELO, State.SENT})
"""States whose own words for a refusal serve for 421 too; elsewhere it is the session that ends (RFC 5321 3.8)."""

_Step = Callable[[Client, bytes], None]

TRANSITIONS: dict[State, dict[int, _Step]] = {
    State.GREETING: {2: Client._greeted, 4: Client._greeting_failed, 5: Client._greeting_failed},
    State.EHLO: {2: Client._ehlo_accepted, 4: Client._name_rejected, 5: Client._ehlo_unknown},
    State.HELO: {2: Client._helo_accepted, 4: Client._name_rejected, 5: Client._name_rejected},
    State.STARTTLS: {2: Client._tls_agreed, 4: Client._tls_refused, 5: Client._tls_refused},
    State.HANDSHAKE: {},
    State.AUTH: {
        2: Client._logged_in,
        3: Client._challenged,
        4: Client._login_refused,
        5: Client._login_refused,
    },
    State.READY: {},
    State.RESET: {2: Client._reset},
    State.MAIL: {2: Client._mail_accepted, 4: Client._mail_refused, 5: Client._mail_refused},
    State.RECIPIENT: {2: Client._rcpt_accepted, 4: Client._rcpt_refused, 5: Client._rcpt_refused},
    State.DATA: {3: Client._data_accepted, 4: Client._data_refused, 5: Client._data_refused},
    State.CONTENT: {4: Client._refused_early, 5: Client._refused_early},
    State.SENT: {2: Client._message_accepted, 4: Client._message_refused, 5: Client._message_refused},
    State.VOID: {2: Client._void_ended, 4: Client._void_ended, 5: Client._void_ended},
    State.QUIT: {2: Client._left, 4: Client._left, 5: Client._left},
    State.CLOSED: {},
}
"""What each first digit of a reply does in each state; what is missing ends the session."""

_TABLE = tuple(TRANSITIONS[state] for state in State)

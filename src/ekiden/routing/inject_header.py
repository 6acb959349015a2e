"""A header made fit to be sent: fields rewritten, added and deleted, sender and recipients found (qmail-header(5)).

Fields go in one by one (``field``), lines ended by LF; at the header's end ``finish`` gives what is to stand in front
of the message's body. New fields stand before the old ones: Date, Message-ID, From, Cc, Mail-Followup-To.
"""

from __future__ import annotations

from ekiden.base.dates import compact_date, utc_date
from ekiden.base.header_body import field_name
from ekiden.base.mailbox import Malformed, Token, quote, unquote
from ekiden.base.mailbox_list import rewrite_field, rewrite_list
from ekiden.base.sender import PER_RECIPIENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ekiden.routing.inject import Defaults, Sender

_RECIPIENTS = frozenset({b"to", b"cc", b"bcc", b"apparently-to"})
_RESENT_RECIPIENTS = frozenset({b"resent-to", b"resent-cc", b"resent-bcc"})
_SENDERS = frozenset(
    {
        b"sender",
        b"from",
        b"reply-to",
        b"return-receipt-to",
        b"errors-to",
        b"resent-sender",
        b"resent-from",
        b"resent-reply-to",
    }
)
_RESENT = _RESENT_RECIPIENTS | {
    b"resent-sender",
    b"resent-from",
    b"resent-reply-to",
    b"resent-date",
    b"resent-message-id",
}
_DELETED = frozenset({b"bcc", b"resent-bcc", b"return-path", b"content-length"})


class InvalidField(Exception):
    """A field that must name a sender cannot be read; ``field`` is its lines."""

    def __init__(self, field: bytes) -> None:
        super().__init__("unable to parse this line")
        self.field = field


class Header:
    """One message's header. ``sender`` may be given beforehand (option -f); then no field changes it.

    ``when`` is seconds of the epoch; ``followup`` the mailing lists of QMAILMFTFILE, lower-case.
    """

    def __init__(
        self,
        defaults: Defaults,
        person: Sender,
        when: float,
        pid: int,
        sender: bytes | None = None,
        followup: Collection[bytes] = (),
    ) -> None:
        self._defaults = defaults
        self._person = person
        self._when = when
        self._pid = pid
        self._sender = sender
        self._followup = followup
        self._seen: set[bytes] = set()
        self._kept: list[bytes] = []
        self._recipients: list[bytes] = []
        self._to_and_cc: list[bytes] = []
        self._resent_recipients: list[bytes] = []

    def field(self, lines: bytes) -> None:
        """Take the next field, folded lines and all. A list of recipients that cannot be read stays as it is."""
        name = field_name(lines)
        if self._is_unwanted(name):
            return
        self._seen.add(name)
        rewrite = self._rewriting(name)
        if rewrite is not None:
            try:
                lines = rewrite_field(lines, rewrite)
            except Malformed:
                if name not in _RECIPIENTS and name not in _RESENT_RECIPIENTS:
                    raise InvalidField(lines) from None
        if name not in _DELETED:
            self._kept.append(lines)

    def _is_unwanted(self, name: bytes) -> bool:
        person = self._person
        return (
            (name == b"from" and person.deletes_from)
            or (name == b"message-id" and person.deletes_message_id)
            or (name == b"return-path" and person.ignores_return_path)
        )

    def _rewriting(self, name: bytes) -> Callable[[list[Token]], list[Token]] | None:
        """What is done to the addresses in a field of that name; None if it holds none."""
        if name in (b"to", b"cc"):
            return self._collecting(self._recipients, self._to_and_cc)
        if name in _RECIPIENTS:
            return self._collecting(self._recipients)
        if name in _RESENT_RECIPIENTS:
            return self._collecting(self._resent_recipients)
        if name == b"return-path":
            return self._take_sender
        return self._defaults.complete if name in _SENDERS else None

    def _collecting(self, *lists: list[bytes]) -> Callable[[list[Token]], list[Token]]:
        def collect(address: list[Token]) -> list[Token]:
            address = self._defaults.complete(address)
            for addresses in lists:
                addresses.append(unquote(address))
            return address

        return collect

    def _take_sender(self, address: list[Token]) -> list[Token]:
        address = self._defaults.complete(address)
        if self._sender is None:
            self._sender = unquote(address) + (PER_RECIPIENT if self._person.verp else b"")
        return address

    # The end

    @property
    def recipients(self) -> list[bytes]:
        """Those in the header: of the Resent fields if the message is resent. The last in each field comes first."""
        return [each for each in (self._resent_recipients if self._is_resent else self._recipients) if each]

    @property
    def sender(self) -> bytes:
        """The envelope sender: as given, else from Return-Path, else from the environment."""
        if self._sender is None:
            rewrite_list(self._person.return_path(self._when, self._pid), self._take_sender)
        return self._sender or b""

    @property
    def _is_resent(self) -> bool:
        return not self._seen.isdisjoint(_RESENT)

    def finish(self) -> bytes:
        """The whole header, lines ended by LF, without the empty line after it."""
        resent = b"Resent-" if self._is_resent else b""
        lower = resent.lower()
        made: list[bytes] = []
        if lower + b"date" not in self._seen:
            made.append(resent + b"Date: " + utc_date(self._when) + b"\n")
        if lower + b"message-id" not in self._seen:
            made.append(resent + self._message_id())
        if lower + b"from" not in self._seen:
            made.append(resent + self._from())
        if self._seen.isdisjoint({lower + b"to", lower + b"cc"}):
            made.append(resent + b"Cc: recipient list not shown: ;\n")
        if not resent:
            made.append(self._mail_followup_to())
        return b"".join((*made, *self._kept))

    def _message_id(self) -> bytes:
        stamp = compact_date(self._when)
        return b"Message-ID: <%b.%d.qmail@%b>\n" % (stamp, self._pid, self._defaults.idhost)

    def _from(self) -> bytes:
        field = self._person.from_field()
        try:
            return rewrite_field(field, self._defaults.complete)
        except Malformed:
            raise InvalidField(field) from None

    def _mail_followup_to(self) -> bytes:
        addresses = self._to_and_cc
        if b"mail-followup-to" in self._seen or not any(each.lower() in self._followup for each in addresses):
            return b""
        return b"Mail-Followup-To: " + b",\n  ".join(map(quote, reversed(addresses))) + b"\n"

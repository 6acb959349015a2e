"""One message for one local recipient: the lines that delivery puts in front, and what programs are told.

Source: qmail-local(8), qmail-command(8), mbox(5).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ekiden.delivery.content import Content

_ATOM = bytes(set(range(0x21, 0x7F)) - set(b'"(),.:;<>@[\\]')) + b"."
_BLANKS = bytes.maketrans(b" \t\n", b"---")


class Letter:
    """Who gets what. ``home`` is absolute; ``dash`` and ``ext`` name the .qmail file.

    ``when`` is in seconds of the epoch. ``default`` is the text of the default delivery's instructions. No value may
    hold NUL.
    """

    __slots__ = (
        "content",
        "dash",
        "default",
        "domain",
        "ext",
        "home",
        "local",
        "output",
        "sender",
        "user",
        "when",
    )

    def __init__(
        self,
        user: bytes,
        home: bytes,
        local: bytes,
        dash: bytes,
        ext: bytes,
        domain: bytes,
        sender: bytes,
        default: bytes,
        content: Content,
        when: float,
    ) -> None:
        self.user = user
        self.home = home
        self.local = local
        self.dash = dash
        self.ext = ext
        self.domain = domain
        self.sender = sender
        self.default = default
        self.content = content
        self.when = when
        self.output = b""
        """What programs have printed so far."""

    @property
    def recipient(self) -> bytes:
        """The address that the letter is for, without quoting."""
        return self.local + b"@" + self.domain

    @property
    def delivered_to(self) -> bytes:
        """The Delivered-To field, LF included."""
        return b"Delivered-To: %b\n" % self.recipient.replace(b"\n", b"_")

    @property
    def return_path(self) -> bytes:
        """The Return-Path field, LF included."""
        return b"Return-Path: <%b>\n" % quoted(self.sender).replace(b"\n", b"_")

    @property
    def from_line(self) -> bytes:
        """The From_ line of mbox files, LF included."""
        from ekiden.base.dates import mbox_date

        sender = self.sender.translate(_BLANKS) or b"MAILER-DAEMON"
        return b"From %b %b\n" % (sender, mbox_date(self.when))

    def environment(self, new_sender: bytes, default: bytes | None) -> dict[bytes, bytes]:
        """The variables of qmail-command(8). ``default``: what stands for ``default`` in the .qmail file's name."""
        variables = {
            b"SENDER": self.sender,
            b"NEWSENDER": new_sender,
            b"RECIPIENT": self.recipient,
            b"USER": self.user,
            b"HOME": self.home,
            b"HOST": self.domain,
            b"LOCAL": self.local,
            b"EXT": self.ext,
            b"DTLINE": self.delivered_to,
            b"RPLINE": self.return_path,
            b"UFLINE": self.from_line,
        }
        host, ext = self.domain, self.ext
        for number in (b"2", b"3", b"4"):
            host = host.rpartition(b".")[0] or (host if b"." not in host else b"")
            ext = ext.partition(b"-")[2]
            variables[b"HOST" + number] = host
            variables[b"EXT" + number] = ext
        if default is not None:
            variables[b"DEFAULT"] = default
        return variables


def quoted(address: bytes) -> bytes:
    """The address as it stands in a header field (RFC 5322 section 3.4.1), quoted only if it must be."""
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = domain, b""
    if not address or not _needs_quotes(local):
        return address
    for octet in (b"\\", b'"', b"\r", b"\n"):
        local = local.replace(octet, b"\\" + octet)
    return b'"%b"%b%b' % (local, at, domain)


def _needs_quotes(local: bytes) -> bool:
    # Octets above 127 stay as they are: RFC 6532 makes them ordinary letters.
    return (
        bool(local.translate(None, _ATOM + bytes(range(0x80, 0x100))))
        or not local
        or local[0] == 0x2E
        or local[-1] == 0x2E
        or b".." in local
    )

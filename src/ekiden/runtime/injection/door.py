"""What is put into the queue from outside, the ways in, and what is said when there is no way in.

No library is loaded here: this is what every injecting program starts with.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from ekiden.base.envelope import Envelope

TOO_LONG = 11
PERMANENT = 31
OUT_OF_MEMORY = 51
TIMEOUT = 52
WRITE_ERROR = 53
READ_ERROR = 54
CONFIGURATION = 55
HOME_TROUBLE = 61
QUEUE_TROUBLE = 62
REFUSED = 71
CONNECT_TIMEOUT = 72
CONNECTION_REFUSED = 73
LOST = 74
INTERNAL_FAULT = 81
BAD_ENVELOPE = 91
"""Exit codes of qmail-queue(8)."""


class NotQueued(Exception):
    """Not queued. ``code`` is qmail-queue's exit code; the text, for people, ends with an enhanced status code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def permanent(self) -> bool:
        """Whether trying again is no use (qmail-queue(8))."""
        return 11 <= self.code <= 40


def refusal(reply: int, status: str, text: str) -> NotQueued:
    """What the queue means that answers with an SMTP reply's code, an enhanced status code and a text."""
    code = PERMANENT if reply >= 500 else WRITE_ERROR if status == "4.3.1" else REFUSED
    return NotQueued(code, f"{text} (#{status})")


class Letter:
    """An envelope as injecting programs fill it: ``base.envelope.Envelope`` without its libraries.

    ``notify`` is RFC 3461's NOTIFY as base.envelope.Notify's number for every recipient, ``ret`` is FULL, HDRS or
    empty, ``envid`` is xtext. ``pid`` is what the log shows as ``qp``.
    """

    def __init__(
        self,
        sender: bytes,
        recipients: Sequence[bytes],
        notify: int = 0,
        ret: bytes = b"",
        envid: bytes = b"",
        pid: int | None = None,
    ) -> None:
        self.sender = sender
        self.recipients = recipients
        self.notify = notify
        self.ret = ret
        self.envid = envid
        self.pid = os.getpid() if pid is None else pid

    @property
    def is_utf8(self) -> bool:
        """Whether an address needs SMTPUTF8 (RFC 6531)."""
        return not all(map(bytes.isascii, (self.sender, *self.recipients)))


class Body:
    """Content on its way: inline octets, or the name of a spool file; in wire form."""

    def __init__(self, inline: bytes, eight_bit: bool, size: int, spool: str = "") -> None:
        self.inline = inline
        self.eight_bit = eight_bit
        self.size = size
        self.spool = spool


if TYPE_CHECKING:

    class Door(Protocol):
        """A way into the queue. Every method raises ``NotQueued``."""

        def grant(self) -> tuple[str, int]:
            """A new spool file: its name, and a descriptor to write to, which the caller closes."""

        def queue(self, letter: Letter, body: Body) -> int:
            """Queue a message; its number."""

        def queue_envelope(self, envelope: Envelope, pid: int, body: Body) -> int:
            """Queue a message with all that SMTP says of it; its number. ``pid`` is what the log shows as ``qp``."""

        def close(self) -> None:
            """Give up what was granted and not queued."""

"""The envelope: who sends, who receives, and what SMTP's extensions say about the transfer.

Addresses are octets, without angle brackets and without quoting: the local part of ``"a b"@host`` is ``a b``.
The empty sender is the null reverse-path of RFC 5321 section 4.5.5. Values are small msgspec structures, because
they travel between processes as they are.
"""

from __future__ import annotations

import enum

import msgspec


class Body(enum.IntEnum):
    """What the content may hold (RFC 6152 BODY=7BIT and 8BITMIME, RFC 3030 BINARYMIME)."""

    SEVENBIT = 0
    EIGHTBIT = 1
    BINARY = 2


class Notify(enum.IntFlag):
    """RFC 3461 NOTIFY. ``DEFAULT`` means that the sender did not say: failures are reported.

    ``TOLD`` is this queue's own mark: the sender knows of the delay here. The next hop is still asked for its own.
    """

    DEFAULT = 0
    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8
    TOLD = 16


class Recipient(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One forward-path. ``orcpt`` is RFC 3461's parameter as on the wire (``rfc822;`` and xtext), empty if absent."""

    address: bytes
    notify: int = 0
    orcpt: bytes = b""

    def wants(self, news: Notify) -> bool:
        """Whether the sender is to be told of SUCCESS, FAILURE or DELAY (RFC 3461 section 4.1).

        Who did not say is told of failures. Delays are told to those who asked: qmail tells nobody.
        """
        if not self.notify:
            return news is Notify.FAILURE
        return not self.notify & Notify.NEVER and bool(self.notify & news)


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A mail transaction's envelope. ``ret`` is ``FULL``, ``HDRS`` or empty; ``envid`` is xtext as on the wire."""

    sender: bytes
    recipients: list[Recipient]
    body: int = 0
    smtputf8: bool = False
    ret: bytes = b""
    envid: bytes = b""


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a message came in, for the log and for trace.

    ``uid`` and ``pid`` are the injecting process's: the daemon's own for SMTP, the kernel's peer credentials for
    local injection. ``address`` is the client's IP address in text, empty for local injection.
    """

    protocol: str
    pid: int
    uid: int
    address: str = ""
    helo: bytes = b""

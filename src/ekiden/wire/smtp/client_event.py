"""What an SMTP client waits for, and what happens to it."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from ekiden.base.outcome import Outcome


class State(enum.IntEnum):
    """What the client waits for: mostly, the reply to the command of that name."""

    GREETING = 0
    EHLO = 1
    HELO = 2
    STARTTLS = 3
    HANDSHAKE = 4
    AUTH = 5
    READY = 6
    RESET = 7
    MAIL = 8
    RECIPIENT = 9
    DATA = 10
    CONTENT = 11  # the shell is giving content
    SENT = 12  # after the final dot: the server may have delivered
    VOID = 13  # after a lone dot that ends a transaction without recipients
    QUIT = 14
    CLOSED = 15


class Ready(msgspec.Struct, frozen=True):
    """The server takes messages."""


class StartTls(msgspec.Struct, frozen=True):
    """The TLS handshake is to begin now."""


class WantContent(msgspec.Struct, frozen=True):
    """The server waits for the content."""


class Lost(msgspec.Struct, frozen=True):
    """The session ended and the server has accepted and refused nothing.

    ``over_tls``: it broke at STARTTLS, in the handshake or before the first answer under TLS, so that a session in
    the clear may fare better. With TLS 1.3 a server that refuses the client says so only after the handshake.
    """

    outcome: Outcome
    over_tls: bool = False


class Done(msgspec.Struct):
    """The transaction ended: one outcome per recipient.

    ``message`` is the outcome after DATA, or that of a transaction without valid recipients; ``refused`` has the
    recipients (by their place) that were refused by themselves. ``outcomes`` is the two put together. The
    recipients before place ``heard`` were decided on before anything else ended the transaction. An LMTP server
    answers for each recipient after DATA too: ``message`` is Delivered if one of them is, and ``refused`` has whoever
    fared worse.
    """

    outcomes: list[Outcome]
    message: Outcome
    refused: dict[int, Outcome] = msgspec.field(default_factory=dict)
    heard: int = 0


Event = Ready | StartTls | WantContent | Lost | Done
Wish = Literal["may", "never", "always"]

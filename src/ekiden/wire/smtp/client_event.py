"""What an SMTP client waits for, and what happens to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

from ekiden.base.outcome import Outcome


class State(enum.IntEnum):
    """What the client waits for: mostly, the reply to the command of that name."""

    GREETING = 0
    EHLO = 1
    HELO = 2
    STARTTLS = 3
    HANDSHAKE = 4
    READY = 5
    RESET = 6
    MAIL = 7
    RECIPIENT = 8
    DATA = 9
    CONTENT = 10  # the shell is giving content
    SENT = 11  # after the final dot: the server may have delivered
    VOID = 12  # after a lone dot that ends a transaction without recipients
    QUIT = 13
    CLOSED = 14


@dataclass(frozen=True, slots=True)
class Ready:
    """The server takes messages."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """The TLS handshake is to begin now."""


@dataclass(frozen=True, slots=True)
class WantContent:
    """The server waits for the content."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The session ended and the server has accepted and refused nothing."""

    outcome: Outcome


@dataclass(slots=True)
class Done:
    """The transaction ended: one outcome per recipient.

    ``message`` is the outcome after DATA, or that of a transaction without valid recipients; ``refused`` has the
    recipients (by their place) that were refused by themselves. ``outcomes`` is the two put together. The
    recipients before place ``heard`` were decided on before anything else ended the transaction.
    """

    outcomes: list[Outcome]
    message: Outcome
    refused: dict[int, Outcome] = field(default_factory=dict)
    heard: int = 0


Event = Ready | StartTls | WantContent | Lost | Done
Wish = Literal["may", "never", "always"]

"""What may be asked of the queue role over ``run/control``, and its answers. Rows are JSON objects.

Every request is answered within one turn and for a bounded amount of work; whoever wants more asks for the next page.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ekiden.queue.audit import LAST, Audited
from ekiden.queue.inspect import Filter
from ekiden.runtime.frames import Frame
from ekiden.settings.schema import Settings

Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
"""A message's id, as the store can hold it."""


class List(Frame, frozen=True, tag=40):
    """Up to ``limit`` messages with ids above ``after`` that match. Answer: ``Rows``."""

    after: Id
    limit: int
    filter: Filter


class Show(Frame, frozen=True, tag=41):
    """One message; up to ``octets`` of its content as a second row. Answer: ``Rows``, empty if it is not there."""

    message: Id
    octets: int = 0


class Act(Frame, frozen=True, tag=42):
    """``hold``, ``release``, ``flush``, ``delete``, ``requeue`` or ``bounce`` these messages. Answer: ``Acted``."""

    action: str
    messages: list[Id]


class Flush(Frame, frozen=True, tag=43):
    """Make a bounded number of messages with ids above ``after`` due now. Answer: ``Done``."""

    after: Id = 0


class Status(Frame, frozen=True, tag=44):
    """The queue's figures and its destinations at hand. Answer: ``Rows``: figures, then a row per destination."""


class Hosts(Frame, frozen=True, tag=45):
    """Addresses that timed out (qmail-tcpto); ``forget`` them all (qmail-tcpok). Answer: ``Rows``."""

    forget: bool = False


class Configure(Frame, frozen=True, tag=46):
    """New settings, from the supervisor. Answer: ``Done``."""

    settings: Settings


class Audit(Frame, frozen=True, tag=47):
    """Hold a bounded number of messages with ids above ``after`` against the ledger. Answer: ``Findings``."""

    after: Id = 0


class Ledger(Frame, frozen=True, tag=48):
    """How messages with ids above ``after`` up to ``until`` ended. Answer: ``Rows``, one per message."""

    after: Id = 0
    until: Id = LAST


class Findings(Frame, frozen=True, tag=52):
    found: Audited


class Rows(Frame, frozen=True, tag=50):
    """JSON objects, and the id to go on after (0: that was all)."""

    rows: list[bytes]
    next: int = 0


class Done(Frame, frozen=True, tag=51):
    """How many messages were changed, why not if an error came between, and the id to go on after (0: all done)."""

    count: int
    error: str = ""
    next: int = 0


class Acted(Frame, frozen=True, tag=53):
    """The messages that were changed, those that are being delivered just now, why not the rest if an error came
    between, and those that are damaged."""

    done: list[Id]
    busy: list[Id]
    error: str = ""
    damaged: list[Id] = msgspec.field(default_factory=list)


ControlRequest = List | Show | Act | Flush | Status | Hosts | Configure | Audit | Ledger
ControlAnswer = Rows | Done | Findings | Acted

_LOOKING = (List, Show, Status, Hosts, Audit, Ledger)


def only_looks(frame: ControlRequest) -> bool:
    """Whether a request changes nothing."""
    return isinstance(frame, _LOOKING) and not (isinstance(frame, Hosts) and frame.forget)

"""What came of a delivery attempt, per recipient."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec


class Verdict(enum.IntEnum):
    """A crash, a silence or an unreadable answer is ``DEFERRED``, never more."""

    DELIVERED = 0
    DEFERRED = 1
    FAILED = 2


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One recipient's outcome.

    ``text`` is the report a person reads, in qmail-remote's and qmail-local's words, lines ended by a newline; the
    log shows it with spaces as ``_`` and newlines as ``/``. ``status`` is the enhanced status code (RFC 3463).
    ``remote`` names the next hop that spoke (empty if none did) and ``reply`` is its reply (RFC 3464
    Diagnostic-Code), empty if there was none. ``relayed_dsn``: the next hop took over the duty to report success.
    ``action``: what a success is called in a report (RFC 3464 section 2.3.3); empty: ``relayed`` if there is a
    ``remote``, else ``delivered``.
    """

    verdict: Annotated[int, msgspec.Meta(ge=0, le=2)]
    status: str
    text: str
    remote: str = ""
    reply: str = ""
    relayed_dsn: bool = False
    action: Literal["", "relayed", "expanded"] = ""


MANGLED = Outcome(Verdict.DEFERRED, "4.3.0", "Unable to understand the delivery report. (#4.3.0)\n")
"""What a report counts as that nobody can read; the log has words of qmail-send's for it."""

"""The states of a POP3 server's session (RFC 1939 section 3), and where answers lead."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from ekiden.wire.pop3.events import (
    Apop,
    Event,
    Listing,
    Login,
    Proven,
    Retrieve,
    ScramBegins,
    ScramProof,
    StartTls,
    Stat,
    Update,
)


class State(enum.IntEnum):
    """Where a session is. AUTHORIZATION, PASSWORD and TRANSACTION read commands."""

    AUTHORIZATION = enum.auto()
    PASSWORD = enum.auto()  # USER was said
    EXCHANGE = enum.auto()  # a line of a SASL exchange is awaited
    TRANSACTION = enum.auto()
    OVERLONG = enum.auto()  # the rest of a line that is too long
    HANDSHAKE = enum.auto()  # TLS is being negotiated
    ENDING = enum.auto()  # the shell must be told so
    ENDED = enum.auto()


Handler = Callable[[Any, bytes], Event]
Commands = Mapping[bytes, Handler | str]
"""A verb's handler, or the words that refuse it."""

AFTER_YES: Mapping[type[Event], State] = {
    StartTls: State.HANDSHAKE,
    ScramBegins: State.EXCHANGE,
    ScramProof: State.EXCHANGE,
    Stat: State.TRANSACTION,
    Listing: State.TRANSACTION,
    Retrieve: State.TRANSACTION,
    Update: State.ENDING,
}
"""A login that succeeds goes on where the mailbox is: ``open`` enters TRANSACTION."""

AFTER_NO: Mapping[type[Event], State] = {
    Login: State.AUTHORIZATION,
    Apop: State.AUTHORIZATION,
    ScramBegins: State.AUTHORIZATION,
    ScramProof: State.AUTHORIZATION,
    Proven: State.AUTHORIZATION,
    StartTls: State.AUTHORIZATION,
    Stat: State.TRANSACTION,
    Listing: State.TRANSACTION,
    Retrieve: State.TRANSACTION,
    Update: State.ENDING,
}

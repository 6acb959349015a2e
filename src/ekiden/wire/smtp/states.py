"""The states of an SMTP server's session, and where answers lead.

Which verb may be said in which state is server.py's table ``COMMANDS``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from ekiden.base.reply import Reply
from ekiden.wire.smtp.events import DataBegins, Event, Hello, Login, Mail, Proven, Rcpt, StartTls


class State(enum.IntEnum):
    """Where a session is. The first four read commands."""

    READY = enum.auto()
    MAIL = enum.auto()  # a sender is accepted
    RCPT = enum.auto()  # and at least one recipient
    CHUNKS = enum.auto()  # between chunks of BDAT
    DATA = enum.auto()  # content until the dot
    CHUNK = enum.auto()  # a counted chunk
    SKIP = enum.auto()  # a counted chunk that nobody wants
    OVERLONG = enum.auto()  # the rest of a line that is too long
    EXCHANGE = enum.auto()  # a line of AUTH's exchange is awaited
    HANDSHAKE = enum.auto()  # TLS is being negotiated
    PARTING = enum.auto()  # the client is sent away: the shell must be told with which words
    ENDING = enum.auto()  # the shell must be told so
    ENDED = enum.auto()


Handler = Callable[[Any, bytes], Event]
Commands = Mapping[bytes, Handler | Reply]

ACCEPTED: Mapping[type[Event], State] = {
    Hello: State.READY,
    Mail: State.MAIL,
    Rcpt: State.RCPT,
    DataBegins: State.DATA,
    StartTls: State.HANDSHAKE,
    Login: State.READY,
    Proven: State.READY,
}
"""The state after a question was answered with yes. After no it stays as it was; after a message it is READY."""

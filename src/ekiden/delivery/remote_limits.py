"""What the settings say of a call to a next hop: from where, with how much TLS, and how long it may take."""

from __future__ import annotations

from ekiden.settings.schema import Settings
from ekiden.wire.smtp.client import State, Wish

ADDRESSES = 10
"""Addresses tried for one message."""

QUIT_SECONDS = 5.0
"""How long a server may take to answer QUIT before the connection is just closed."""


def session_timeouts(settings: Settings) -> tuple[float, ...]:
    """Seconds by State (RFC 5321 section 4.5.3.2), none longer than the setting timeoutremote."""
    seconds: dict[State, float] = {
        State.GREETING: settings.timeoutgreeting,
        State.EHLO: settings.timeouthelo,
        State.HELO: settings.timeouthelo,
        State.STARTTLS: settings.timeouthelo,
        State.HANDSHAKE: settings.timeouthelo,
        State.AUTH: settings.timeoutmail,
        State.RESET: settings.timeoutmail,
        State.MAIL: settings.timeoutmail,
        State.RECIPIENT: settings.timeoutrcpt,
        State.DATA: settings.timeoutdatainit,
        State.CONTENT: settings.timeoutdatablock,
        State.SENT: settings.timeoutdataend,
        State.VOID: settings.timeoutdataend,
    }
    limits: dict[State, float] = {state: min(limit, settings.timeoutremote) for state, limit in seconds.items()}
    # At least a second: a new connection is ready for a moment before it gets the message that it was opened for.
    limits |= {State.READY: max(settings.reuseseconds, 1), State.QUIT: QUIT_SECONDS, State.CLOSED: QUIT_SECONDS}
    return tuple(float(limits[state]) for state in State)


def wish_for_tls(settings: Settings, says_password: bool) -> Wish:
    """How much TLS is wanted, with or without a login."""
    return "always" if says_password and settings.remoteauthtls != "may" else settings.tlsremote


def must_verify(settings: Settings, says_password: bool) -> bool:
    """Whether the next hop must show a certificate that this host trusts."""
    return says_password and settings.remoteauthtls == "verify"


def source(settings: Settings, address: str) -> tuple[str, int] | None:
    """The address and port, 0 being any, that ``address`` is called from (outgoingip); None if the kernel may choose.

    An address of one family is not called from one of the other.
    """
    own = settings.outgoingip
    if own in ("", "0.0.0.0", "::") or (":" in own) != (":" in address):
        return None
    return own, 0

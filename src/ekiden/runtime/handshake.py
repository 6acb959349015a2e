"""STARTTLS and STLS on the server's side: from clear text to TLS within a connection."""

from __future__ import annotations

import asyncio
import ssl

from ekiden.runtime.log import Log

HANDSHAKE_SECONDS = 60.0


async def secure(
    transport: asyncio.Transport, protocol: asyncio.Protocol, tls: ssl.SSLContext | None, log: Log, address: str
) -> asyncio.Transport | None:
    """The transport that takes this one's place; None if the handshake fails, which is logged, and cuts this one off.

    ``address`` is the client's, for the log.
    """
    loop = asyncio.get_running_loop()
    try:
        if tls is None:
            raise ConnectionError("there is no certificate")
        secured = await loop.start_tls(
            transport, protocol, tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
        if secured is None:
            raise ConnectionError("connection lost")
    except (OSError, asyncio.CancelledError) as error:
        reason = f"TLS handshake failed: {str(error) or 'connection lost'}"
        log.event("refuse", f"refuse: {address}: {reason}", client=address, reason=reason)
        transport.abort()
        return None
    return secured

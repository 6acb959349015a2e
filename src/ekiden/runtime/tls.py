"""TLS towards clients: the contexts of STARTTLS (RFC 3207) and of listeners that begin with TLS (RFC 8314)."""

from __future__ import annotations

import ssl


class CannotSecure(Exception):
    """The certificate or its key cannot be used; the text says which and why."""


def server_context(certificate: str, key: str = "") -> ssl.SSLContext:
    """A context that shows ``certificate`` (path of a PEM chain); its key is in ``key``, or in the same file.

    TLS 1.2 and later. Clients' certificates are not asked for. Raises CannotSecure.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError; neither names the file.
        raise CannotSecure(f"{certificate}: {getattr(error, 'strerror', None) or error}") from None
    return context

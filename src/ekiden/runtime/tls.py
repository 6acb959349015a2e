"""TLS towards clients: the contexts of STARTTLS (RFC 3207) and of listeners that begin with TLS (RFC 8314)."""

from __future__ import annotations

import os
import ssl
from pathlib import Path


class CannotSecure(Exception):
    """The certificate or its key cannot be used; the text says which and why."""


def server_context(certificate: str, key: str = "") -> ssl.SSLContext:
    """A context that shows ``certificate`` (path of a PEM chain); its key is in ``key``, or in the same file.

    TLS 1.2 and later. Clients' certificates are not asked for. Raises CannotSecure.
    """
    return context_of(read_pem(certificate, key), certificate)


def read_pem(certificate: str, key: str = "") -> bytes:
    """Both files in one, the key first, so that it is the one that counts. Raises CannotSecure."""
    found = []
    for path in filter(None, (key, certificate)):
        try:
            found.append(Path(path).read_bytes())
        except OSError as error:
            raise CannotSecure(f"{path}: {error.strerror}") from None
    return b"\n".join(found)


def context_of(pem: bytes, name: str) -> ssl.SSLContext:
    """A context for the certificates and the key in ``pem``; ``name`` is for the error. Raises CannotSecure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # The library reads files only.
    descriptor = os.memfd_create("certificate")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        # Nobody is there to be asked for the password of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError; neither names the file.
        raise CannotSecure(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        os.close(descriptor)
    return context


class ServerTLS:
    """The context for all handshakes with clients, which shows the newest certificate that it was given."""

    def __init__(self, pem: bytes, name: str) -> None:
        """``pem``: certificates and key; ``name`` is for errors. Raises CannotSecure."""
        self.context = self._newest = context_of(pem, name)
        self._name = name

        def choose(secured: ssl.SSLObject | ssl.SSLSocket, _server: str | None, _context: ssl.SSLContext) -> None:
            secured.context = self._newest

        # Called in every handshake, whether or not the client names a server.
        self.context.sni_callback = choose

    def replace(self, pem: bytes) -> None:
        """Show another certificate from the next handshake on. Raises CannotSecure, and goes on with the last one."""
        self._newest = context_of(pem, self._name)

"""What one POP3 listener offers and allows."""

from __future__ import annotations

import msgspec


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """``greeting`` is said after ``+OK``; with ``timestamp``, as ``<1896.697170952@host>``, APOP is offered.

    ``plaintext``: passwords are taken over connections without TLS. ``mechanisms``: SASL mechanisms. ``errors``:
    refused commands after which the client is sent away. ``command_octets``: longest command line with its CRLF.
    ``login_delay``: seconds between logins of a user, 0 for none (told, not enforced, here).
    """

    greeting: str = "POP3 server ready"
    timestamp: bytes = b""
    starttls: bool = False
    plaintext: bool = True
    mechanisms: tuple[bytes, ...] = (b"PLAIN", b"SCRAM-SHA-256")
    errors: int = 20
    command_octets: int = 2048
    login_delay: int = 0
    implementation: str = "ekiden"

"""What a server says of itself and the limits that it keeps; one object serves all sessions of a kind."""

from __future__ import annotations

import msgspec

from ekiden.base.reply import Reply


class Profile(msgspec.Struct, frozen=True):
    """Immutable. Limits of 0 are no limits.

    ``greeting`` is the text after 220, 221 and 250 (host name first). ``size_limit``: octets of content.
    ``recipients``: per transaction. ``errors``: refused commands per session. ``command_octets``: a command line with
    its CRLF. ``line_octets``: a content line without CRLF. ``normalise``: make lone CR and LF in content whole
    instead of refusing the message. ``starttls``: offer it on a plain connection. ``lmtp``: speak LMTP (lmtp.py).
    ``mechanisms``: SASL's, offered under TLS, without it if ``plaintext``; ``authenticate``: insist on one.
    """

    greeting: str
    size_limit: int = 0
    recipients: int = 1000
    errors: int = 20
    command_octets: int = 2048
    line_octets: int = 0
    normalise: bool = False
    starttls: bool = False
    lmtp: bool = False
    mechanisms: tuple[bytes, ...] = ()
    plaintext: bool = False
    authenticate: bool = False
    hello: bytes = b""
    extended_hello: bytes = b""
    extended_hello_secured: bytes = b""

    def __post_init__(self) -> None:
        def encoded(*lines: str) -> bytes:
            return Reply(250, "", "\n".join((self.greeting, *lines))).encode()

        size = f"SIZE {self.size_limit}" if self.size_limit else "SIZE"
        extensions = ["PIPELINING", size, "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN"]
        extensions += ["ENHANCEDSTATUSCODES", "HELP"]
        login = ["AUTH " + b" ".join(self.mechanisms).decode()] if self.mechanisms else []
        secured = encoded(*extensions, *login)
        if self.plaintext:
            extensions += login
        plain = encoded(*extensions, "STARTTLS") if self.starttls else encoded(*extensions)
        msgspec.structs.force_setattr(self, "hello", encoded())
        msgspec.structs.force_setattr(self, "extended_hello", plain)
        msgspec.structs.force_setattr(self, "extended_hello_secured", secured)

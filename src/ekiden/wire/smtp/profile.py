"""What a server says of itself and the limits that it keeps; one object serves all sessions of a kind."""

from __future__ import annotations

from dataclasses import dataclass, field

from ekiden.base.reply import Reply


@dataclass(frozen=True, slots=True)
class Profile:
    """Immutable. Limits of 0 are no limits.

    ``greeting`` is the text after 220, 221 and 250 (host name first). ``size_limit``: octets of content.
    ``recipients``: per transaction. ``errors``: refused commands per session. ``command_octets``: a command line with
    its CRLF. ``line_octets``: a content line without CRLF. ``normalise``: make lone CR and LF in content whole
    instead of refusing the message. ``starttls``: offer it on a plain connection. ``lmtp``: speak LMTP (lmtp.py).
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
    hello: bytes = field(init=False)
    extended_hello: bytes = field(init=False)
    extended_hello_secured: bytes = field(init=False)

    def __post_init__(self) -> None:
        def encoded(*lines: str) -> bytes:
            return Reply(250, "", "\n".join((self.greeting, *lines))).encode()

        size = f"SIZE {self.size_limit}" if self.size_limit else "SIZE"
        extensions = ["PIPELINING", size, "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN"]
        extensions += ["ENHANCEDSTATUSCODES", "HELP"]
        secured = encoded(*extensions)
        plain = encoded(*extensions, "STARTTLS") if self.starttls else secured
        object.__setattr__(self, "hello", encoded())
        object.__setattr__(self, "extended_hello", plain)
        object.__setattr__(self, "extended_hello_secured", secured)

"""Whether mail from a client is blocked, and the SMTP conversation that says so (rblsmtpd.1).

A DNS list answers for the address a.b.c.d under d.c.b.a.BASE: a blocking one with a text, an excusing one with an
address. For IPv6 the name is that of RFC 5782 section 2.4, the 32 digits in reverse.
"""

from __future__ import annotations

from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOKUP_FAILED = b"temporary RBL lookup error"
_LONGEST = 200
"""Octets of a reply's text."""

_VERB_OCTETS = 16
"""As much of a line as is kept while it grows: no verb is longer."""

_TAKEN = frozenset({b"helo", b"ehlo", b"mail", b"rset", b"noop"})


class Decision(NamedTuple):
    """``text`` is None if nothing blocks. ``bounces``: for good instead of for now."""

    text: bytes | None = None
    bounces: bool = False

    @property
    def blocks(self) -> bool:
        """Whether mail is refused."""
        return self.text is not None

    @property
    def reply(self) -> bytes:
        """The reply to a client, without its CR LF."""
        text = bytes(octet if 32 <= octet <= 126 else 63 for octet in (self.text or b"")[:_LONGEST])
        return (b"553 " if self.bounces else b"451 ") + text


def judge(
    variable: bytes | None,
    address: bytes,
    options: Iterable[tuple[str, str]],
    texts: Callable[[bytes], bytes],
    is_listed: Callable[[bytes], bool],
) -> Decision:
    """Decide by RBLSMTPD (None if not set), else by the lists in order; an option counts for the lists after it.

    ``texts`` and ``is_listed`` ask DNS; they raise OSError if nobody says.
    """
    if variable is not None:
        if not variable:
            return Decision()
        return Decision(variable[1:], True) if variable.startswith(b"-") else Decision(variable)
    bounces = closed = doubtful = False
    for letter, base in options:
        if letter in "bB":
            bounces = letter == "b"
        elif letter in "cC":
            closed = letter == "c"
        elif letter in "ra":
            name = reversed_address(address) + base.encode("utf-8", "surrogateescape")
            try:
                if letter == "a" and is_listed(name):
                    return Decision()
                text = texts(name) if letter == "r" else b""
            except OSError:
                doubtful = True
                if closed and letter == "r":
                    return Decision(LOOKUP_FAILED)
                if not closed and letter == "a":
                    return Decision()
                continue
            if text:
                return Decision(text, bounces and not doubtful)
    return Decision()


def reversed_address(address: bytes) -> bytes:
    """``1.2.3.4`` is ``4.3.2.1.``; IPv6 by its digits; whatever else by what its dots divide."""
    if b":" in address:
        try:
            digits = inet_pton(AF_INET6, address.decode()).hex()
        except (OSError, ValueError):
            return b""
        return ".".join(reversed(digits)).encode() + b"."
    return b".".join(reversed(address.split(b"."))) + b"." if address else b""


class Refusal:
    """The conversation: octets in, octets out. Every attempt to send a message gets ``reply``."""

    def __init__(self, reply: bytes) -> None:
        self.greeting = b"220 rblsmtpd.local\r\n"
        self.is_over = False
        self._reply = reply + b"\r\n"
        self._line = b""

    def receive(self, data: bytes) -> bytes:
        """The answers to what the client sent, once its lines are whole; nothing after QUIT."""
        *lines, self._line = (self._line + data).split(b"\n")
        answers = []
        for line in lines:
            if not self.is_over:
                answers.append(self._answer(line.removesuffix(b"\r").partition(b" ")[0].lower()))
        self._line = self._line[:_VERB_OCTETS]
        return b"".join(answers)

    def _answer(self, verb: bytes) -> bytes:
        if verb == b"quit":
            self.is_over = True
            return b"221 rblsmtpd.local\r\n"
        return b"250 rblsmtpd.local\r\n" if verb in _TAKEN else self._reply

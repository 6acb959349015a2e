"""SASL as a client of a smart host's needs it: SCRAM-SHA-256 (RFC 7677), PLAIN (RFC 4616), LOGIN, the best first.

With SCRAM the password never leaves this host, and a server that does not know it is found out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection
from typing import NamedTuple, Protocol

from ekiden.wire.sasl import Malformed

_FIRST = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,6})(?:,.*)?", re.DOTALL)


class Credentials(NamedTuple):
    """Who logs in. ``nonce``: fresh printable octets without a comma, for one session.

    ``iterations``: most rounds of hashing that a server may ask for; a million takes about half a second.
    """

    user: bytes
    password: bytes
    nonce: bytes
    iterations: int


class Exchange(Protocol):
    """One attempt. Messages are octets, without the base64 that the protocol puts around them."""

    name: bytes
    first: bytes | None
    """What goes with the mechanism's name; None if the server is to speak first."""
    done: bool
    """Whether a yes of the server's may be believed now."""

    def answer(self, challenge: bytes) -> bytes:
        """What to say to a challenge. Raises sasl.Malformed for what this mechanism does not have."""


def choose(offered: Collection[bytes], credentials: Credentials) -> Exchange | None:
    """By the best mechanism that the server offers; None if there is none."""
    for mechanism in (_Scram, _Plain, _Login):
        if mechanism.name in offered:
            return mechanism(credentials)
    return None


class _Plain:
    name = b"PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self.first: bytes | None = b"\0%b\0%b" % (credentials.user, credentials.password)
        self.done = True

    def answer(self, challenge: bytes) -> bytes:
        raise Malformed("PLAIN has no challenge")


class _Login:
    name = b"LOGIN"
    first: bytes | None = None

    def __init__(self, credentials: Credentials) -> None:
        # What the server asks with is for people: the order is what counts.
        self._left = [credentials.password, credentials.user]
        self.done = False

    def answer(self, challenge: bytes) -> bytes:
        if not self._left:
            raise Malformed("LOGIN has two challenges")
        answer = self._left.pop()
        self.done = not self._left
        return answer


class _Scram:
    name = b"SCRAM-SHA-256"

    def __init__(self, credentials: Credentials) -> None:
        user = credentials.user.replace(b"=", b"=3D").replace(b",", b"=2C")
        self._bare = b"n=%b,r=%b" % (user, credentials.nonce)
        self.first: bytes | None = b"n,," + self._bare
        self.done = False
        self._credentials = credentials
        self._signature = b""

    def answer(self, challenge: bytes) -> bytes:
        if self._signature:
            if self.done or not hmac.compare_digest(challenge, b"v=" + base64.b64encode(self._signature)):
                raise Malformed("the server does not know the password")
            self.done = True
            return b""
        match = _FIRST.fullmatch(challenge)
        nonce = self._credentials.nonce
        if match is None or not match[1].startswith(nonce) or match[1] == nonce:
            raise Malformed("not a first message of a SCRAM server")
        try:
            salt = base64.b64decode(match[2], validate=True)
        except ValueError:
            raise Malformed("the salt is not base64") from None
        iterations = int(match[3])
        if iterations > self._credentials.iterations:
            raise Malformed(f"it asks for {iterations} iterations, more than remoteauthiterations")
        salted = hashlib.pbkdf2_hmac("sha256", self._credentials.password, salt, iterations)
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = b"c=biws,r=" + match[1]
        signed = b",".join((self._bare, challenge, final))
        proof = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return final + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, proof, strict=True)))

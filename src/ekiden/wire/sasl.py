"""SASL mechanisms as the server sees them: PLAIN (RFC 4616) and SCRAM-SHA-256 (RFC 5802, RFC 7677).

What a client sends is read here into names and numbers; whether it is right is for whoever keeps the passwords to
say, with the functions at the end. Channel binding is not offered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

import msgspec

NAME_OCTETS = 255
"""Longest user name and password taken. PLAIN allows any length; nobody has longer ones."""

_FIRST = re.compile(rb"([ny]),(?:a=([^,]*))?,(n=((?:[^,=]|=2C|=3D)+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)", re.DOTALL)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[^p][^,]*)*),p=([A-Za-z0-9+/=]+)", re.DOTALL)


class Malformed(ValueError):
    """Not what the mechanism's grammar allows."""


def decode(text: bytes) -> bytes:
    """The octets that a line of an exchange stands for. Raises Malformed for what is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Malformed("not base64") from None


def parse_plain(message: bytes) -> tuple[bytes, bytes]:
    """User and password of a PLAIN message. Raises Malformed, also for a wish to act as somebody else."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise Malformed("PLAIN has three parts")
    acting, user, password = parts
    if acting not in (b"", user):
        raise Malformed("nobody may act for another user")
    check_name(user)
    check_name(password)
    return user, password


def check_name(text: bytes) -> None:
    """Raise Malformed unless this can be a user's name or password: 1 to 255 octets of UTF-8 without NUL."""
    if not 0 < len(text) <= NAME_OCTETS or b"\0" in text:
        raise Malformed("empty, too long, or with a NUL")
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None


class ScramFirst(msgspec.Struct, frozen=True):
    """The client's first message: its header (``n,,``), the rest without it, the user, the client's nonce."""

    header: bytes
    bare: bytes
    user: bytes
    nonce: bytes


def parse_scram_first(message: bytes) -> ScramFirst:
    """Raises Malformed; also if channel binding is asked for."""
    match = _FIRST.fullmatch(message)
    if match is None:
        raise Malformed("not a first message of SCRAM")
    user = match[4].replace(b"=2C", b",").replace(b"=3D", b"=")
    check_name(user)
    acting = (match[2] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
    if acting not in (b"", user):
        raise Malformed("nobody may act for another user")
    return ScramFirst(message[: match.start(3)], match[3], user, match[5])


def scram_challenge(nonce: bytes, salt: bytes, iterations: int) -> bytes:
    """The server's first message; ``nonce`` is the client's with the server's behind it."""
    return b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(salt), iterations)


def server_final(signature: bytes) -> bytes:
    """The server's last message, by which it proves that it knows the user's keys."""
    return b"v=" + base64.b64encode(signature)


def parse_scram_final(message: bytes, first: ScramFirst, challenge: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """What both sides sign (AuthMessage), and the client's proof. Raises Malformed."""
    match = _FINAL.fullmatch(message)
    if match is None or decode(match[2]) != first.header or match[3] != nonce:
        raise Malformed("not the last message of this SCRAM exchange")
    proof = decode(match[4])
    if len(proof) != hashlib.sha256().digest_size:
        raise Malformed("a proof of another length")
    return b",".join((first.bare, challenge, match[1])), proof


# For whoever keeps the passwords.


class ScramKeys(msgspec.Struct, frozen=True):
    """What a server keeps of a password; knowing it does not suffice to log in."""

    iterations: int
    salt: bytes
    stored: bytes
    server: bytes


def scram_keys(password: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """The keys of a password (RFC 5802 section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return ScramKeys(iterations, salt, hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256"))


def scram_signature(keys: ScramKeys, signed: bytes, proof: bytes) -> bytes | None:
    """The server's signature if the client's proof is right, else None."""
    signature = hmac.digest(keys.stored, signed, "sha256")
    client = bytes(a ^ b for a, b in zip(signature, proof, strict=True))
    if not hmac.compare_digest(hashlib.sha256(client).digest(), keys.stored):
        return None
    return hmac.digest(keys.server, signed, "sha256")

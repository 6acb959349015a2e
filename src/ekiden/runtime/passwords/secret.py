"""Who may log in: what every source of passwords answers with.

A secret is what is kept of a password, one of

    {PLAIN}word                         the word itself; the only one that APOP works with
    SCRAM-SHA-256$N:salt$stored:server  RFC 5803's form; works with SCRAM-SHA-256 and with passwords
    $argon2id$...                       Argon2
    $6$..., $y$..., any other           whatever the system's crypt(3) knows
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import functools
import hashlib
import hmac
import os
import re

import msgspec

from ekiden.wire.sasl import ScramKeys, scram_keys

_PLAIN = b"{PLAIN}"
_SCRAM = re.compile(rb"SCRAM-SHA-256\$([1-9][0-9]{0,6}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_ARGON2 = b"$argon2"
_SALT_KEY = os.urandom(32)


class Unavailable(Exception):
    """It cannot be found out now; the text is for the log."""


class Account(msgspec.Struct, frozen=True):
    """Who a session works as. ``mailbox``: relative to ``home``; empty for the setting's."""

    name: bytes
    uid: int
    gid: int
    home: bytes
    shell: bytes = b"/bin/sh"
    mailbox: bytes = b""


class Entry(msgspec.Struct, frozen=True):
    """An account with its secret."""

    account: Account
    secret: bytes


def is_costly(secret: bytes) -> bool:
    """Whether checking a password against it takes more than a moment."""
    return not secret.startswith(_PLAIN)


def check_password(secret: bytes, password: bytes) -> bool:
    """Whether the password is right. Raises Unavailable if this kind of secret cannot be checked here."""
    if b"\0" in password:
        # HMAC and crypt(3) cannot tell it from its end.
        return False
    if secret.startswith(_PLAIN):
        return hmac.compare_digest(secret[len(_PLAIN) :], password)
    keys = scram(secret)
    if keys is not None:
        return hmac.compare_digest(scram_keys(password, keys.salt, keys.iterations).stored, keys.stored)
    if secret.startswith(_ARGON2):
        return _check_argon2(secret, password)
    return _check_crypt(secret, password)


def check_apop(secret: bytes, timestamp: bytes, digest: bytes) -> bool:
    """RFC 1939 section 7; only a password that is kept as it is can be compared."""
    if not secret.startswith(_PLAIN):
        return False
    right = hashlib.md5(timestamp + secret[len(_PLAIN) :], usedforsecurity=False).hexdigest()
    return hmac.compare_digest(right.encode(), digest)


def scram(secret: bytes) -> ScramKeys | None:
    """What SCRAM-SHA-256 needs, None if the secret does not have it."""
    if secret.startswith(_PLAIN):
        # Whoever asks is told the salt: keyed, it is the same at every attempt and says nothing about the password.
        word = secret[len(_PLAIN) :]
        return scram_keys(word, hmac.digest(_SALT_KEY, word, "sha256")[:16], 4096)
    match = _SCRAM.fullmatch(secret)
    if match is None:
        return None
    try:
        salt, stored, server = (base64.b64decode(match[place], validate=True) for place in (2, 3, 4))
    except binascii.Error:
        return None
    return ScramKeys(int(match[1]), salt, stored, server) if len(stored) == len(server) == 32 else None


def _check_argon2(secret: bytes, password: bytes) -> bool:
    import argon2

    kinds = {b"i": argon2.Type.I, b"d": argon2.Type.D, b"id": argon2.Type.ID}
    kind = kinds.get(secret[len(_ARGON2) :].partition(b"$")[0])
    try:
        return kind is not None and argon2.low_level.verify_secret(secret, password, kind)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.Argon2Error, ValueError) as error:
        raise Unavailable(f"secret cannot be checked: {error}") from None


@functools.cache
def _crypt() -> ctypes._NamedFuncPointer:
    """The system's crypt(3); Python's own way to it is gone since 3.13."""
    try:
        function = ctypes.CDLL("libcrypt.so.1").crypt
    except OSError as error:
        raise Unavailable(f"crypt(3) cannot be used: {error}") from None
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    return function


def _check_crypt(secret: bytes, password: bytes) -> bool:
    # Locked accounts have secrets that no password gives; an empty one must not let everybody in.
    if len(secret) < 13 or secret[:1] in (b"!", b"*"):
        return False
    crypted: bytes | None = _crypt()(password, secret)
    return crypted is not None and hmac.compare_digest(crypted, secret)

"""SASL: RFC 7677's example, and nothing malformed taken."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.sasl import (
    Malformed,
    decode,
    parse_plain,
    parse_scram_final,
    parse_scram_first,
    scram_challenge,
    scram_keys,
    scram_signature,
)

# RFC 7677 section 3.
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
FINAL = b"c=biws,r=" + NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_rfc_7677() -> None:
    first = parse_scram_first(FIRST)
    assert (first.user, first.header) == (b"user", b"n,,")
    challenge = scram_challenge(NONCE, SALT, 4096)
    assert challenge == b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    signed, proof = parse_scram_final(FINAL, first, challenge, NONCE)
    assert scram_signature(scram_keys(b"pencil", SALT, 4096), signed, proof) == SIGNATURE
    assert scram_signature(scram_keys(b"pencils", SALT, 4096), signed, proof) is None
    assert scram_signature(scram_keys(b"pencil", SALT, 4096), signed, bytes(32)) is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=x",
        b"n,,r=x,n=user",
        b"p=tls-unique,,n=user,r=x",
        b"n,a=other,n=user,r=x",
        b"n,,n=us=er,r=x",
        b"n,,m=ext,n=user,r=x",
        b"n,,n=user,r=\x01",
        b"n,,n=\xff,r=x",
        b"n,,n=a\0b,r=x",
    ],
)
def test_first_messages_not_taken(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_scram_first(message)


def test_names_with_commas() -> None:
    assert parse_scram_first(b"y,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=x").user == b"a,b=c"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        FINAL.replace(b"biws", b"eSws"),
        FINAL.replace(b"r=r", b"r=s"),
        FINAL[:-4],
        FINAL.partition(b",p=")[0],
        FINAL.replace(b",p=", b",p=AAAA"),
    ],
)
def test_final_messages_not_taken(message: bytes) -> None:
    first = parse_scram_first(FIRST)
    with pytest.raises(Malformed):
        parse_scram_final(message, first, scram_challenge(NONCE, SALT, 4096), NONCE)


@pytest.mark.parametrize("message", [b"", b"a\0b", b"a\0b\0c", b"\0\0c", b"\0b\0", b"\0b\0c\0d", b"\0\xff\0c"])
def test_plain_not_taken(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_plain(message)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_plain(user: str, password: str) -> None:
    name, secret = user.replace("\0", "-").encode(), password.replace("\0", "-").encode()
    assert parse_plain(b"\0" + name + b"\0" + secret) == (name, secret)
    assert parse_plain(name + b"\0" + name + b"\0" + secret) == (name, secret)


@given(st.binary(max_size=60))
def test_anything_is_malformed_or_read(message: bytes) -> None:
    first = parse_scram_first(FIRST)
    for parse in (
        decode,
        parse_plain,
        parse_scram_first,
        lambda text: parse_scram_final(text, first, scram_challenge(NONCE, SALT, 4096), NONCE),
    ):
        try:
            parse(message)  # type: ignore[operator]
        except Malformed:
            continue

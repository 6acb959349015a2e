from __future__ import annotations

import contextlib
import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.delivery.remote_convert import UnconvertibleError, to_sevenbit

MIXED = b"""From: a@x.example\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed;\r
\tboundary="=_b"\r
Content-Transfer-Encoding: 8bit\r
\r
preamble\r
--=_b\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
\xe9\xa7\x85\xe4\xbc\x9d\r
.dot and a trailing blank \r
--=_b\r
Content-Type: text/plain\r
\r
plain stays  \r
--=_b\r
Content-Type: application/octet-stream\r
Content-Transfer-Encoding: binary\r
\r
\x00\xff\n\r\x80\r
--=_b\r
Content-Type: message/rfc822\r
Content-Transfer-Encoding: 8bit\r
\r
Subject: inner\r
Content-Type: text/plain; charset=latin1\r
Content-Transfer-Encoding: 8bit\r
\r
na\xefve\r
--=_b--\r
epilogue\r
"""


def parts(content: bytes) -> list[tuple[str, bytes | None]]:
    message = email.message_from_bytes(content, policy=email.policy.SMTP)
    found: list[tuple[str, bytes | None]] = []
    for part in message.walk():
        payload = part.get_payload(decode=True)
        found.append((part.get_content_type(), payload if isinstance(payload, bytes) else None))
    return found


def test_a_mixture_keeps_its_structure_and_every_octet() -> None:
    converted = to_sevenbit(MIXED)
    assert converted.isascii()
    before, after = parts(MIXED), parts(converted)
    assert [kind for kind, _ in before] == [kind for kind, _ in after]
    assert after[1][1] == b"\xe9\xa7\x85\xe4\xbc\x9d\r\n.dot and a trailing blank "
    assert after[3][1] == b"\x00\xff\n\r\x80"
    assert after[5][1] == b"na\xefve"
    assert b"\r\n\r\nplain stays  \r\n--=_b\r\n" in converted
    assert converted.startswith(
        b"From: a@x.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary"
    )
    assert converted.endswith(b"--=_b--\r\nepilogue\r\n")
    assert b"8bit" not in converted
    assert b"\n" not in converted.replace(b"\r\n", b"")


def test_what_is_seven_bit_already_is_left_alone() -> None:
    for content in (b"", b"Subject: a\r\n\r\nhello\r\n", b"\r\nhello\r\n", b"no header at all\r\n"):
        assert to_sevenbit(content) == content


def test_mail_without_mime_is_labelled() -> None:
    converted = to_sevenbit(b"Subject: a\r\n\r\nna\xefve\r\n")
    assert converted == (
        b"Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve\r\n"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"Subject: na\xefve\r\n\r\nx\r\n", "header"),
        (
            b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--\r\n",
            "signed",
        ),
        (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n\xff\r\n", "boundary"),
        (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\xff\r\n", "boundary"),
        (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary*=a\0b'c'd\r\n\r\n\xff\r\n", "boundary"),
        (b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; x=";boundary=b"\r\n\r\n\xff\r\n', "no boundary"),
        (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\xff\r\n--b--\r\n", "around"),
        (b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n\xff\r\n", "encoding"),
        (b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" * 60 + b"\r\n\xff\r\n", "deep"),
    ],
)
def test_what_cannot_be_converted_says_why(content: bytes, why: str) -> None:
    with pytest.raises(UnconvertibleError, match=why):
        to_sevenbit(content)


@pytest.mark.parametrize(
    "written", [b"b", b'"b"', b' "\\b" ; x=y', b"b; boundary=c", b"B*=x; boundary=b", b"b (no comment"]
)
def test_boundaries_as_they_are_written(written: bytes) -> None:
    name = b"x" if written.startswith(b"B") else b" Boundary"
    head = b'MIME-Version: 1.0\r\nContent-Type: Multipart/Mixed; a=";";%b=%b\r\n\r\n' % (name, written)
    boundary = b"b (no comment" if b"(" in written else b"b"
    body = b"--%b\r\n\r\n\xff\r\n--%b--\r\n" % (boundary, boundary)
    assert b"=FF" in to_sevenbit(head + body)


@given(st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"\r\n")))
def test_text_survives(body: bytes) -> None:
    header = (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=latin1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    converted = to_sevenbit(header + body)
    assert converted.isascii()
    assert email.message_from_bytes(converted).get_payload(decode=True) == body
    assert all(len(line) <= 998 for line in converted.split(b"\r\n")) or body.isascii()


@given(st.binary(max_size=300))
def test_nothing_but_unconvertible_comes_of_anything(content: bytes) -> None:
    for prefix in (b"", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"):
        with contextlib.suppress(UnconvertibleError):
            assert to_sevenbit(prefix + content).isascii()

"""sendmail's queue files: those that sendmail 8.17 made, against what it sent when it ran its queue itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.envelope import Body, Notify, Recipient
from ekiden.migration.queue_file import read_queue_file
from ekiden.migration.queue_header import Damaged, completed

HERE = Path(__file__).parent
LOCAL = b"relay.nix.example"
DELIVERED = sorted(path.name for path in (HERE / "delivered").iterdir())
BASE = b"V8\nT1000\nK0\nN0\nP30000\nS<s@a.example>\nRPFD:<r@b.example>\nH??Subject: x\n.\n"


def real(name: str) -> bytes:
    return (HERE / "mqueue" / name).read_bytes()


@pytest.mark.parametrize("name", DELIVERED)
def test_content_is_what_sendmail_sends(name: str) -> None:
    content = read_queue_file(real(f"qf{name}"), LOCAL).content(real(f"df{name}"))
    assert content.count(b"\n") == content.count(b"\r\n")
    assert content.replace(b"\r\n", b"\n") == (HERE / "delivered" / name).read_bytes()


def test_an_envelope_from_smtp() -> None:
    file = read_queue_file(real("qf6ANDgWg4006069"), LOCAL)
    assert file.birth == 1_795_441_352
    envelope = file.envelope
    assert (envelope.sender, envelope.ret, envelope.envid, envelope.body) == (
        b"s@a.example",
        b"HDRS",
        b"ab+2Bc",
        Body.EIGHTBIT,
    )
    assert envelope.recipients == [
        Recipient(b"r@far.example", Notify.SUCCESS | Notify.FAILURE, b"rfc822;orig@far.example"),
        Recipient(b"r2@far.example", Notify.DEFAULT),
        Recipient(b"o dd@far.example", Notify.DEFAULT),
    ]


def test_local_names_and_aliases() -> None:
    file = read_queue_file(real("qf6ANDfi6D005598"), LOCAL)
    assert file.envelope.sender == b"root@relay.nix.example"
    assert [one.address for one in file.envelope.recipients] == [b"root@relay.nix.example", b"bob2@far.example"]
    assert [one.address for one in read_queue_file(real("qf6ANDgBil005738"), LOCAL).envelope.recipients] == [
        b"root@relay.nix.example",
        b"d@far.example",
    ]


def test_programs_and_files_are_no_addresses() -> None:
    assert read_queue_file(real("qf6ANDgBG1005726"), LOCAL).programs == [b'"|/bin/cat"']
    assert read_queue_file(real("qf6ANDgBbF005731"), LOCAL).programs == [b"/var/mail/archive"]


def test_a_bounce_and_a_quarantined_message() -> None:
    bounce = read_queue_file(real("qf6ANDfiEG005595"), LOCAL).envelope
    assert (bounce.sender, bounce.recipients[0].notify) == (b"", Notify.NEVER)
    assert read_queue_file(real("hf6ANDgBMV005741"), LOCAL).quarantine == b"bad stuff"


@pytest.mark.parametrize(
    ("flags", "notify"),
    [
        (b"PFD", Notify.DEFAULT),
        (b"", Notify.DEFAULT),
        (b"PN", Notify.NEVER),
        (b"PNS", Notify.SUCCESS),
        (b"NFD", Notify.FAILURE | Notify.DELAY),
        (b"PNSFDA", Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),
    ],
)
def test_notify(flags: bytes, notify: Notify) -> None:
    (recipient,) = read_queue_file(BASE.replace(b"PFD", flags), LOCAL).envelope.recipients
    assert recipient.notify == notify


@pytest.mark.parametrize(
    ("lines", "header"),
    [
        (b"H??A: 1\n\t2\nH??B: 3\n", b"A: 1\n\t2\nB: 3\n"),
        (b"HA: old\n", b"A: old\n"),
        (b"H?P?Return-Path: <\x81g>\nH??Return-path: <x>\n", b""),
        (b"H?x?Full-Name: x\nH?D?Date: d\nH?mFX?From: f@x\n", b"Date: d\nFrom: f@x\n"),
        (b"F8bs\nH??Bcc: hidden@x\n", b""),
        (b"H??Bcc: shown@x\n", b"Bcc: shown@x\n"),
        (b"${auth_type}PLAIN\nH?${auth_type}?X: y\nH?$z?Z: n\n", b"X: y\n"),
        (b"$zvalue\nH??X: \x81z!\nH??Y: \x81g\n", b"X: value!\nY: s@a.example\n"),
        ("H??Subject: Á\n".encode().replace(b"\x81", b"\xff\x81"), "Subject: Á\n".encode()),
    ],
)
def test_header(lines: bytes, header: bytes) -> None:
    file = read_queue_file(BASE.replace(b"H??Subject: x\n", lines), LOCAL)
    assert file.header == header


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        (b"<@a,@b:u@h.example>", b"u@h.example"),
        (b'<"a@b"@h.example>', b"a@b@h.example"),
        (b'<"a\\"b"@h.example>', b'a"b@h.example'),
        (b"\\bob", b"bob@relay.nix.example"),
        (b"u@[192.0.2.1]", b"u@[192.0.2.1]"),
    ],
)
def test_addresses(address: bytes, wanted: bytes) -> None:
    file = read_queue_file(BASE.replace(b"<r@b.example>", address), LOCAL)
    assert file.envelope.recipients[0].address == wanted


@pytest.mark.parametrize(
    ("old", "new", "utf8"), [(b"r@", b"r@", False), (b"r@", b"\xc3\xa9@", True), (b"s@", b"\xc3\xa9@", True)]
)
def test_addresses_in_utf8_need_smtputf8(old: bytes, new: bytes, utf8: bool) -> None:
    assert read_queue_file(BASE.replace(old, new), LOCAL).envelope.smtputf8 == utf8


def test_formats_before_version_1_have_no_flags() -> None:
    old = BASE.replace(b"V8\n", b"").replace(b"RPFD:<r@b.example>", b"R<r@b.example>")
    assert read_queue_file(old, LOCAL).envelope.recipients == [Recipient(b"r@b.example")]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"V8", b"V9", "version 9"),
        (b"T1000", b"Tx", "no number"),
        (b"T1000", b"T" + b"9" * 5000, "no number"),
        (b"T1000\n", b"", "age"),
        (b"S<s@a.example>\n", b"", "S line"),
        (b"RPFD:<r@b.example>\n", b"", "no recipients"),
        (b"RPFD:", b"R", "colon"),
        (b"\n.\n", b"\n", "dot"),
        (b"\n.\n", b"\n.\nmore\n", "behind its end"),
        (b"\n.\n", b"\n.", "no end"),
        (b"K0", b"?0", "not known"),
        (b"H??Subject: x", b"H??Subject: \x81z", "macro"),
    ],
)
def test_damage_is_named(old: bytes, new: bytes, said: str) -> None:
    with pytest.raises(Damaged, match=said):
        read_queue_file(BASE.replace(old, new), LOCAL)


def test_a_file_that_is_cut_off_anywhere_is_damaged() -> None:
    whole = real("qf6ANDgWg4006069")
    for end in range(len(whole)):
        with pytest.raises(Damaged):
            read_queue_file(whole[:end], LOCAL)


@given(st.binary(max_size=60), st.integers(0, len(BASE)))
def test_whatever_is_in_it_it_is_read_or_damaged(octets: bytes, place: int) -> None:
    try:
        read_queue_file(BASE[:place] + octets + BASE[place:], LOCAL)
    except Damaged as error:
        assert str(error)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        (b"From: root <root>\n", b"From: root <root@h.example>\n"),
        (b"To: a, b@x (c)\n", b"To: a@h.example, b@x (c)\n"),
        (b"To: a@x,\n\tb@y\n", b"To: a@x,\n\tb@y\n"),
        (b"Subject: root\n", b"Subject: root\n"),
        (b"To: broken>\n", b"To: broken>\n"),
    ],
)
def test_addresses_in_fields_get_a_host(field: bytes, wanted: bytes) -> None:
    assert completed(field, b"h.example") == wanted

"""What is stored behind a check is read back as it was written, in its own place, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.envelope import Origin, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.queue import ledger
from ekiden.queue.ledger import End, Entry
from ekiden.queue.sealing import (
    decode_ended,
    decode_meta,
    decode_recipients,
    encode_ended,
    encode_meta,
    encode_recipients,
    key_check,
)
from ekiden.queue.store import UNDECODABLE, Ended, Meta

ID = 1 << 33 | 77
META = Meta(Origin("smtp", 1, 2, "192.0.2.1", b"client"), recipients=1, checksum=7, message_id=b"<1@x>", whom=9)
TO = [Recipient(b"a@example.org"), Recipient(b"b@example.org", 4, b"rfc822;b")]
ENDED = (Ended(TO[0], Outcome(Verdict.FAILED, "5.1.1", "no\n")),)
ENTRY = Entry([End(b"a@example.org", "failed", "5.1.1", "no", "192.0.2.1", True)])

COLUMNS = {
    "meta": (
        encode_meta(META, ID, b"s@example.org"),
        partial(decode_meta, message=ID, sender=b"s@example.org"),
        META,
    ),
    "recipients": (encode_recipients(TO, ID, 3), partial(decode_recipients, message=ID, destination=3), TO),
    "ended": (encode_ended(ENDED, ID), partial(decode_ended, message=ID), ENDED),
    "entry": (ledger.encode(ENTRY, ID, -1), partial(ledger.decode, message=ID, part=-1), ENTRY),
}


def flipped(octets: bytes) -> Iterator[bytes]:
    """With each bit in turn."""
    for place in range(len(octets) * 8):
        damaged = bytearray(octets)
        damaged[place // 8] ^= 1 << place % 8
        yield bytes(damaged)


@pytest.mark.parametrize("name", COLUMNS)
def test_no_flipped_bit_passes(name: str) -> None:
    stored, decode, value = COLUMNS[name]
    assert decode(stored) == value
    for damaged in flipped(stored):
        with pytest.raises(UNDECODABLE):
            decode(damaged)


@pytest.mark.parametrize("name", COLUMNS)
def test_what_has_another_kind_or_length_does_not_pass(name: str) -> None:
    stored, decode, _value = COLUMNS[name]
    for damaged in (None, 7, 1.5, "text", b"", *(stored[:length] for length in range(len(stored))), stored + b"\0"):
        with pytest.raises(UNDECODABLE):
            decode(damaged)


@pytest.mark.parametrize("name", COLUMNS)
def test_it_is_no_other_message_s(name: str) -> None:
    stored, decode, _value = COLUMNS[name]
    for bit in range(32):
        with pytest.raises(UNDECODABLE):
            decode(stored, message=ID ^ 1 << bit)


@pytest.mark.parametrize("bit", range(32))
def test_recipients_are_no_other_destination_s(bit: int) -> None:
    with pytest.raises(UNDECODABLE):
        decode_recipients(encode_recipients(TO, ID, 3), ID, 3 ^ 1 << bit)


def test_an_envelope_is_no_other_sender_s() -> None:
    for sender in (*flipped(b"s@example.org"), b"", "s@example.org", None):
        with pytest.raises(UNDECODABLE):
            decode_meta(COLUMNS["meta"][0], ID, sender)


def test_what_was_stored_without_a_check_is_read() -> None:
    encode: Callable[..., bytes] = msgspec.msgpack.encode
    assert decode_meta(encode(META), ID, b"s@example.org") == META
    assert decode_recipients(encode(TO), ID, 3) == TO
    assert decode_ended(encode(ENDED), ID) == ENDED
    assert ledger.decode(encode(ENTRY), ID, 0) == ENTRY


def test_no_flipped_bit_in_a_key_or_its_number_passes() -> None:
    check = key_check(b"[192.0.2.9]:25", 3)
    assert all(key_check(key, 3) != check for key in flipped(b"[192.0.2.9]:25"))
    assert all(key_check(b"[192.0.2.9]:25", 3 ^ 1 << bit) != check for bit in range(32))


ADDRESS = st.binary(max_size=80)


@given(
    st.lists(st.builds(Recipient, ADDRESS, st.integers(0, 31), ADDRESS), max_size=20),
    st.integers(1, (1 << 62) - 1),
    st.integers(1, (1 << 62) - 1),
)
def test_recipients_come_back(recipients: list[Recipient], message: int, destination: int) -> None:
    assert decode_recipients(encode_recipients(recipients, message, destination), message, destination) == recipients


@given(st.lists(ADDRESS), st.lists(ADDRESS), st.randoms())
def test_whom_is_the_same_in_any_order_and_for_nobody_else(one: list[bytes], other: list[bytes], chance) -> None:
    shuffled = list(one)
    chance.shuffle(shuffled)
    assert ledger.whom(shuffled) == ledger.whom(one)
    assert (ledger.whom(one) == ledger.whom(other)) == (sorted(filter(None, one)) == sorted(filter(None, other)))

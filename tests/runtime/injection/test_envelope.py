"""The envelope on descriptor 1."""

from __future__ import annotations

import os
import threading

import pytest

from ekiden.runtime.injection.door import NotQueued
from ekiden.runtime.injection.envelope import ADDRESS_OCTETS, read_envelope


def read(data: bytes, size: int) -> tuple[bytes, list[bytes]]:
    """Through a pipe, ``size`` octets at a time."""
    reading, writing = os.pipe()

    def write() -> None:
        for at in range(0, len(data), size):
            os.write(writing, data[at : at + size])
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return read_envelope(reading)
    finally:
        writer.join()
        os.close(reading)


LONG = b"x" * ADDRESS_OCTETS


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("data", "sender", "recipients"),
    [
        (b"Fs@x\0Ta@x\0Tb@y\0\0", b"s@x", [b"a@x", b"b@y"]),
        (b"F\0\0", b"", []),
        (b"F\0T\0\0trailing", b"", [b""]),
        (b"F" + LONG + b"\0T" + LONG + b"\0\0", LONG, [LONG]),
    ],
)
def test_read(data: bytes, sender: bytes, recipients: list[bytes], size: int) -> None:
    assert read(data, size) == (sender, recipients)


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 54),
        (b"Fs@x", 54),
        (b"Fs@x\0Ta@x\0", 54),
        (b"Xs@x\0\0", 91),
        (b"F\0X\0\0", 91),
        (b"F" + LONG + b"y\0\0", 11),
        (b"F\0T" + LONG + b"y\0\0", 11),
    ],
)
def test_refused(data: bytes, code: int, size: int) -> None:
    with pytest.raises(NotQueued) as caught:
        read(data, size)
    assert caught.value.code == code
    assert caught.value.permanent == (code == 11)


def test_no_more_is_read_than_there_is() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"Fs\0Ta\0\0")
    # The pipe stays open: whoever waits for its end would wait for ever.
    assert read_envelope(reading) == (b"s", [b"a"])
    os.close(writing)
    os.close(reading)

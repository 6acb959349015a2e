"""Our little msgpack against the real one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.runtime.injection.packing import pack, unpack

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=20),
    max_leaves=30,
)


@given(VALUES)
def test_both_ways(value):
    assert msgspec.msgpack.decode(pack(value)) == value
    assert unpack(msgspec.msgpack.encode(value)) == value


@pytest.mark.parametrize("size", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_every_length(size):
    for value in (b"x" * size, "x" * size, [1] * size):
        assert msgspec.msgpack.decode(pack(value)) == value
        assert unpack(msgspec.msgpack.encode(value)) == value


@given(st.binary(max_size=30))
def test_anything_is_read_or_refused(data):
    try:
        value = unpack(data)
    except (ValueError, UnicodeDecodeError):
        return
    assert msgspec.msgpack.decode(data) == value or value != value

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.wire.smtp.client_reply import MAXIMUM_REPLY, ReplyReader, UnreadableError, reply_status, reply_text

_text = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b" "))
_code = st.sampled_from([b"220", b"250", b"354", b"421", b"550", b"599"])
_end = st.sampled_from([b"\r\n", b"\n"])


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    code, end = draw(_code), draw(_end)
    lines = draw(st.lists(_text, min_size=1, max_size=5))
    return b"".join(code + b"-" + line + end for line in lines[:-1]) + code + b" " + lines[-1] + end


@given(st.lists(replies(), max_size=4), st.integers(1, 60))
def test_replies_come_out_whole_however_they_are_cut(sent: list[bytes], size: int) -> None:
    reader = ReplyReader()
    got = []
    stream = b"".join(sent)
    for start in range(0, len(stream), size):
        reader.feed(stream[start : start + size])
        while (reply := reader.next_reply()) is not None:
            got.append(reply)
    assert got == sent
    assert not reader.pending


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_nothing_but_unreadable_comes_of_anything(pieces: list[bytes]) -> None:
    reader = ReplyReader()
    try:
        for piece in pieces:
            reader.feed(piece)
            while (reply := reader.next_reply()) is not None:
                assert reply[0:1] in b"2345"
                assert reply.endswith(b"\n")
                reply_text(reply).encode()
                reply_status(reply)
    except UnreadableError:
        pass


@pytest.mark.parametrize(
    "data", [b"1", b"6", b"2x", b"25x", b"250x", b"\r", b"\n", b" ", b"250-a\r\n5", b"250-a\r\n251", b"250-a\r\n25x"]
)
def test_unreadable_is_noticed_at_the_first_octet(data: bytes) -> None:
    reader = ReplyReader()
    for octet in data[:-1]:
        reader.feed(bytes([octet]))
        assert reader.next_reply() is None
    reader.feed(data[-1:])
    with pytest.raises(UnreadableError):
        reader.next_reply()


def test_length_is_bounded_whole_and_in_pieces() -> None:
    for data in (b"250 " + b"x" * MAXIMUM_REPLY + b"\r\n", b"250-" + b"x" * MAXIMUM_REPLY):
        reader = ReplyReader()
        reader.feed(data)
        with pytest.raises(UnreadableError):
            reader.next_reply()


@pytest.mark.parametrize(
    ("reply", "text", "status"),
    [
        (b"250 ok\r\n", "250 ok", "2.0.0"),
        (b"250 2.1.5 ok\r\n", "250 2.1.5 ok", "2.1.5"),
        (b"550-5.1.1 no\r\n550 5.1.1 such\r\n", "550-5.1.1 no\n550 5.1.1 such", "5.1.1"),
        (b"550 4.1.1 contradicts itself\r\n", "550 4.1.1 contradicts itself", "5.0.0"),
        (b"550 5.1.1\r\n", "550 5.1.1", "5.1.1"),
        (b"550 5.1.1000 x\r\n", "550 5.1.1000 x", "5.0.0"),
        (b"354\r\n", "354", "3.0.0"),
        (b"550 \x00\x1b[31m\xff\r\n", "550 ??[31m\ufffd", "5.0.0"),
        ("550 届かない\r\n".encode(), "550 届かない", "5.0.0"),
    ],
)
def test_text_and_status(reply: bytes, text: str, status: str) -> None:
    assert (reply_text(reply), reply_status(reply)) == (text, status)

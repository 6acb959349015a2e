from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ekiden.wire.smtp.client_content import DotStuffer, stuff

_content = st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"x", b".."]), max_size=30).map(b"".join)


def unstuff(data: bytes) -> bytes:
    """What a server makes of it (RFC 5321 section 4.5.2)."""
    assert data.endswith(b".\r\n")
    body = b"\r\n" + data[:-3]
    assert b"\r\n.\r\n" not in body, "the content ends early"
    assert body.endswith(b"\r\n")
    return body.replace(b"\r\n..", b"\r\n.")[2:]


@given(_content)
@example(b"")
@example(b".")
@example(b"\r\n.\r\n")
def test_the_server_gets_the_content_back(content: bytes) -> None:
    whole = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert unstuff(stuff(content)) == whole


@given(_content, st.integers(1, 7))
@example(b"\r\n.\r\n", 1)
def test_pieces_make_the_same_as_the_whole(content: bytes, size: int) -> None:
    stuffer = DotStuffer()
    pieces = [stuffer.stuff(content[start : start + size]) for start in range(0, len(content), size)]
    assert b"".join(pieces) + stuffer.finish() == stuff(content)

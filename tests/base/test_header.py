import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.base import header

MESSAGE = (
    b"Received: (qmail 7 invoked by uid 0);\r\n 23 Nov 2026 03:56:33 -0000\r\n"
    b"SUBJECT:  folded\r\n\tover two lines \r\n"
    b"no field at all\r\n"
    b"To : jiro@nix.co.jj\r\n"
    b"\r\n"
    b"Subject: not this one\r\n"
)


def test_split_leaves_the_empty_line_out():
    head, body = header.split(MESSAGE)
    assert head.endswith(b"jiro@nix.co.jj\r\n")
    assert body == b"Subject: not this one\r\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (b"", b"")),
        (b"\r\nbody", (b"", b"body")),
        (b"A: b\r\n", (b"A: b\r\n", b"")),
        (b"A: b", (b"A: b", b"")),
        (b"A: b\r\n\r\n", (b"A: b\r\n", b"")),
        (b"A: b\n\nno end\r\n\r\n\r\n", (b"A: b\n\nno end\r\n", b"\r\n")),
    ],
)
def test_split_of_odd_content(content, expected):
    assert header.split(content) == expected


def test_fields_in_order():
    assert [(field.name, field.value) for field in header.fields(MESSAGE)] == [
        (b"received", b"(qmail 7 invoked by uid 0); 23 Nov 2026 03:56:33 -0000"),
        (b"subject", b"folded\tover two lines"),
        (b"", b"no field at all"),
        (b"to", b"jiro@nix.co.jj"),
    ]


def test_find_is_blind_to_case_and_stops_at_the_body():
    assert header.find(MESSAGE, b"Subject").value == b"folded\tover two lines"
    assert header.find(MESSAGE, b"received").raw.count(b"\r\n") == 2
    assert header.find(MESSAGE, b"TO").value == b"jiro@nix.co.jj"
    assert header.find(MESSAGE, b"Date") is None
    assert len(list(header.find_all(MESSAGE, b"subject"))) == 1


def test_find_does_not_take_a_longer_name():
    assert header.find(b"Received-SPF: pass\r\nReceived: x\r\n", b"Received").value == b"x"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0),
        (MESSAGE, 1),
        (b"received: a\r\nRECEIVED: b\r\nDelivered-To: c\r\n\r\nReceived: d\r\n", 3),
        (b"Received : a\r\nDelivered-To\t: b\r\nReceived by hand\r\n", 2),
        (b"Received-SPF: pass\r\nX-Received: a\r\n", 0),
        (b"\r\nReceived: a\r\n", 0),
    ],
)
def test_hops(content, expected):
    assert header.hops(content) == expected


LINES = st.lists(
    st.sampled_from([b"Received: x", b"To : y", b" folded", b"\t", b"", b"junk", b": z", b"a\rb\nc: d", b"\xff:\x00"])
)


@given(LINES.map(b"\r\n".join) | st.binary())
def test_fields_lose_nothing(content):
    head, body = header.split(content)
    assert b"".join(field.raw for field in header.fields(content)) == head
    assert content in (head + b"\r\n" + body, head)
    assert list(header.fields(head)) == list(header.fields(content))


@given(LINES.map(b"\r\n".join), st.sampled_from([b"received", b"to", b"a\rb\nc", b"junk"]))
def test_find_all_agrees_with_fields(content, name):
    assert list(header.find_all(content, name)) == [field for field in header.fields(content) if field.name == name]


def test_a_million_lines_take_linear_time():
    content = b"Received: x\r\n" * 300_000 + b" \r\n" * 700_000
    started = time.process_time()
    assert header.hops(content) == 300_000
    assert sum(1 for _ in header.fields(content)) == 300_000
    assert sum(1 for _ in header.find_all(content, b"received")) == 300_000
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Message-ID: <a@b>\r\n\r\n", b"<a@b>"),
        (b"A: b\r\nMESSAGE-id :\r\n\t<a@b> (comment)\r\nC: d\r\n\r\n", b"<a@b>"),
        (b"message-id:<a@b>", b"<a@b>"),
        (b"A: b\r\n\r\nMessage-ID: <body@b>\r\n", b""),
        (b"\r\nMessage-ID: <body@b>\r\n", b""),
        (b"Resent-Message-ID: <a@b>\r\n\r\n", b""),
        (b"Message-ID:\r\nSubject: x\r\n\r\n", b""),
        (b"Message-ID: <" + b"a" * 600 + b">\r\n\r\n", b"<" + b"a" * 499),
        (b"X: " + b"y" * 20_000 + b"\r\nMessage-ID: <late@b>\r\n\r\n", b""),
        (b"", b""),
    ],
)
def test_message_id(content, expected):
    assert header.message_id(content) == expected


LINES = st.sampled_from([b"Message-ID: <a@b>", b"message-id:", b" <c@d>", b"\t", b"A: b", b"", b"x"])


@given(st.lists(LINES, max_size=8))
def test_message_id_is_the_first_fields(lines):
    content = b"".join(line + b"\r\n" for line in lines)
    found = [field.value.split() for field in header.find_all(content, b"message-id")]
    said = header.message_id(content)
    assert not said or [said] in [words[:1] for words in found]
    if found and found[0]:
        assert said

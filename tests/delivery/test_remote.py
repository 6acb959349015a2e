from __future__ import annotations

import os
import tempfile

import pytest

from ekiden.base.envelope import Body, Envelope, Recipient
from ekiden.delivery import remote
from ekiden.delivery.remote import Job, is_slow, prepare
from ekiden.wire.smtp.client_command import Extensions

ASCII = b"Subject: a\r\n\r\nhello\r\n"
LATIN = b"Subject: a\r\n\r\nna\xefve\r\n"
HEADER = "Subject: 駅伝\r\n\r\nhello\r\n".encode()
ALL = Extensions(eightbitmime=True, smtputf8=True, chunking=True, binarymime=True)
NONE = Extensions()


def job(
    content: bytes,
    body: int = 0,
    utf8: bool = False,
    recipient: bytes = b"jiro@nix.example",
    in_file: bool = False,
    sender: bytes = b"haruo@nix.example",
) -> Job:
    envelope = Envelope(sender, [Recipient(recipient)], body=body, smtputf8=utf8)
    if not in_file:
        return Job(None, 1, b"x", envelope, content, len(content))
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return Job(None, 1, b"x", envelope, None, len(content), os.dup(file.fileno()))


@pytest.mark.parametrize(
    ("given", "offered", "body", "utf8"),
    [
        (job(ASCII), ALL, Body.SEVENBIT, False),
        (job(ASCII, Body.EIGHTBIT), ALL, Body.SEVENBIT, False),
        (job(LATIN), ALL, Body.EIGHTBIT, False),
        (job(ASCII, Body.BINARY), ALL, Body.BINARY, False),
        (job(HEADER, utf8=True), ALL, Body.EIGHTBIT, True),
        (job(ASCII, recipient="駅@nix.example".encode()), ALL, Body.SEVENBIT, True),
        (job(ASCII, utf8=True), NONE, Body.SEVENBIT, True),
        (job(ASCII, recipient="駅@nix.example".encode()), NONE, Body.SEVENBIT, True),
        (job(ASCII, Body.EIGHTBIT), NONE, Body.SEVENBIT, False),
        (job(LATIN, Body.EIGHTBIT), NONE, Body.SEVENBIT, False),
        (job(ASCII, Body.BINARY), Extensions(eightbitmime=True, binarymime=True), Body.SEVENBIT, False),
        (job(LATIN, in_file=True), NONE, Body.SEVENBIT, False),
        (job(ASCII, in_file=True), ALL, Body.EIGHTBIT, False),
    ],
)
def test_what_the_server_can_take(given: Job, offered: Extensions, body: Body, utf8: bool) -> None:
    assert prepare(given, offered) is None
    assert (given.body, given.utf8) == (body, utf8)
    if given.content is not None:
        assert given.size == len(given.content)
        assert given.body != Body.SEVENBIT or given.content.isascii()
    given.close()


@pytest.mark.parametrize(
    ("given", "offered", "status"),
    [
        (job(ASCII), Extensions(size=True, size_limit=10), "5.3.4"),
        (job(ASCII, sender="駅@nix.example".encode()), NONE, "5.6.7"),
        (job(HEADER, utf8=True), Extensions(eightbitmime=True), "5.6.7"),
        (job(HEADER, utf8=True), NONE, "5.6.7"),
        (job(HEADER), NONE, "5.6.3"),
    ],
)
def test_what_it_cannot_take(given: Job, offered: Extensions, status: str) -> None:
    outcome = prepare(given, offered)
    assert outcome is not None
    assert outcome.status == status
    assert f"(#{status})" in outcome.text


def test_what_is_too_long_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CONVERTIBLE", 10)
    outcome = prepare(job(LATIN), NONE)
    assert outcome is not None
    assert outcome.status == "5.6.3"


def test_a_size_limit_of_zero_is_none() -> None:
    assert prepare(job(ASCII), Extensions(size=True, size_limit=0)) is None


def test_only_files_for_old_servers_are_slow() -> None:
    inline, filed = job(ASCII), job(ASCII, in_file=True)
    assert not is_slow(inline, NONE)
    assert is_slow(filed, NONE)
    assert not is_slow(filed, ALL)
    filed.close()


def test_reading_a_file_leaves_its_offset_to_others() -> None:
    filed = job(ASCII, in_file=True)
    assert filed.descriptor is not None
    os.lseek(filed.descriptor, 3, os.SEEK_SET)
    assert filed.piece(0) == ASCII
    assert os.lseek(filed.descriptor, 0, os.SEEK_CUR) == 3
    filed.close()

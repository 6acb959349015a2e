"""The log's lines about refused clients, written and read back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ekiden.base.reply import Reply
from ekiden.runtime.log import Log
from ekiden.runtime.logreader import events

NO = Reply(553, "5.7.1", "sorry")


def read_back(directory: Path, sender: bytes, recipient: bytes, how: str) -> dict[str, Any]:
    sink = os.open(directory / "ekiden.log", os.O_WRONLY | os.O_CREAT)
    try:
        log = Log("smtpd", sink)
        log.refusal("192.0.2.1", how, sender, recipient, NO, helo=b"x")
    finally:
        os.close(sink)
    (event,) = events(directory)
    return event


@pytest.mark.parametrize(
    ("sender", "recipient", "shown"),
    [
        (b"a@b", b"victim%far.example@c", ("a@b", "victim%far.example@c")),
        (b"", b"", ("", "")),
        (b"a b@c", b"x> to <y: 250 ok@d", ("a_b@c", "x>_to_<y:_250_ok@d")),
        ("ä\n@b".encode(), b"c\x7f@d", ("??/@b", "c?@d")),
    ],
)
def test_a_refusal(tmp_path: Path, sender: bytes, recipient: bytes, shown: tuple[str, str]) -> None:
    event = read_back(tmp_path, sender, recipient, "helo x")
    assert (event["sender"], event["recipient"]) == shown
    assert (event["client"], event["helo"], event["reason"]) == ("192.0.2.1", "x", "553 5.7.1 sorry")


def test_a_refusal_of_another_protocol_than_smtp(tmp_path: Path) -> None:
    event = read_back(tmp_path, b"a@b", b"c@d", "qmtp")
    assert (event["event"], event["sender"], event["recipient"]) == ("refuse", "a@b", "c@d")
    assert "helo" not in event


@pytest.mark.parametrize("service", ["", "smtp: ", "pop3: "])
def test_a_client_that_was_sent_away(tmp_path: Path, service: str) -> None:
    (tmp_path / "ekiden.log").write_text(f"1.5 refuse: {service}192.0.2.1: jiro: authentication failed\n")
    (event,) = events(tmp_path)
    assert (event["client"], event["reason"]) == ("192.0.2.1", "jiro: authentication failed")


def test_files_that_get_other_names_meanwhile_are_read_once(tmp_path: Path) -> None:
    """A gigabyte of log takes a while to read, and then a whole file of it was passed over."""
    names = ["ekiden.log.2", "ekiden.log.1", "ekiden.log"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"Nov 30 00:47:39 x qmail: 1795999659.450420 new msg {number}\n")
    reading = events(tmp_path)
    first = next(reading)["message"]
    for old, new in zip(names, ["ekiden.log.3", *names], strict=False):
        (tmp_path / old).rename(tmp_path / new)
    (tmp_path / "ekiden.log").write_text("Nov 30 00:47:40 x qmail: 1795999660.450420 new msg 3\n")
    assert [first, *(event["message"] for event in reading)] == [0, 1, 2]

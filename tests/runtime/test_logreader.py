"""The log's lines about refused clients, written and read back."""

from __future__ import annotations

import gzip
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


@pytest.mark.parametrize(
    "names",
    [
        ("ekiden.log.2.gz", "ekiden.log.1", "ekiden.log"),
        ("ekiden.log-20261122.gz", "ekiden.log-20261129", "ekiden.log"),
        ("ekiden.log-20261122", "ekiden.log.10", "ekiden.log.9.gz"),
    ],
)
def test_what_logrotate_has_put_away(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        text = f"1.5 new msg {number}\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    # One that is being compressed just now is there twice.
    for name in names:
        if not name.endswith(".gz"):
            (tmp_path / f"{name}.gz").write_bytes(b"\x1f\x8b half of it")
    (tmp_path / "ekiden.log.bak").write_text("1.5 new msg 99\n")
    assert [event["message"] for event in events(tmp_path)] == [0, 1, 2]


@pytest.mark.parametrize("cut", [5, -9])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    (tmp_path / "ekiden.log.1.gz").write_bytes(gzip.compress(b"1.5 new msg 1\n")[:cut])
    with pytest.raises(OSError, match=r"ekiden\.log\.1\.gz") as caught:
        list(events(tmp_path))
    assert caught.value.filename.endswith("/ekiden.log.1.gz")


def test_forwards_lead_to_new_messages(tmp_path: Path) -> None:
    (tmp_path / "ekiden.log").write_text(
        "1.0 info msg 5: bytes 9 from <a@b> qp 70 uid 0\n"
        "2.0 starting delivery 1: msg 1 to local list@here\n"
        "2.5 info msg 2: bytes 9 from <a@b> qp 71 uid 0\n"
        "3.0 delivery 1: success: qp_70/did_0+2+0/qp_71/\n"
    )
    assert [event["forwards"] for event in events(tmp_path) if "forwards" in event] == [[2]], "70 was another's"


def test_both_forms_tell_the_same_of_refusals(tmp_path: Path) -> None:
    told = []
    for form in ("qmail", "json"):
        with (tmp_path / "ekiden.log").open("wb") as file:
            log = Log("smtpd", file.fileno(), form)
            log.refusal("192.0.2.1", "helo x", b"a@b", b"c@d", NO, helo=b"x")
            log.event("refuse", "refuse: smtp: 192.0.2.1: jiro: no", client="192.0.2.1", user="jiro", reason="no")
        told.append([(event["client"], event["reason"]) for event in events(tmp_path)])
    assert told == [[("192.0.2.1", "553 5.7.1 sorry"), ("192.0.2.1", "jiro: no")]] * 2


@pytest.mark.parametrize(
    "line",
    [
        '{"time":1.5,"event":"bounce","message":1}',
        '{"time":1.5,"event":"info","message":1}',
        '{"time":1.5,"event":"refuse"}',
        '{"time":1.5,"event":"success","delivery":1,"report":5}',
        "refuse: 192.0.2.1: no time",
        "1.5 ",
        "\udcff",
    ],
)
def test_lines_that_nobody_of_ours_wrote(tmp_path: Path, line: str) -> None:
    before = '{"time":1.5,"event":"starting","delivery":1,"message":1,"recipient":"x"}\n'
    (tmp_path / "ekiden.log").write_bytes(before.encode() + line.encode("utf-8", "surrogateescape") + b"\n")
    first, *_others = events(tmp_path)
    assert first["event"] == "starting"


def test_a_file_whose_number_is_none_is_passed_over(tmp_path: Path) -> None:
    for name in ("ekiden.log", "ekiden.log.\u00b2", "ekiden.log.old"):
        (tmp_path / name).write_text("1.5 refuse: smtp: 192.0.2.1: jiro: authentication failed\n")
    assert len(list(events(tmp_path))) == 1

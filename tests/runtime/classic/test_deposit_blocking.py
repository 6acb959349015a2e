"""Messages into the queue from a program that waits: the envelope whole, large content, what goes wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.programs.conftest import RECORDER
from tests.roles.doorway import Doorway, doorway

from ekiden.base.envelope import Envelope, Notify, Origin, Recipient
from ekiden.runtime.classic.deposit_blocking import Deposits, rejected
from ekiden.runtime.frames import Accepted, Rejected
from ekiden.runtime.injection.direct import Direct
from ekiden.runtime.injection.door import NotQueued

ORIGIN = Origin("SMTP", 4711, 0)


@pytest.fixture
def queue(tmp_path: Path) -> Any:
    """A stand-in for the queue process behind ``run/inject``."""
    with doorway(tmp_path) as made:
        (tmp_path / "run" / "inject").symlink_to("intake")
        made.start_queue()
        yield made


def put(home: Path, chunks: list[bytes], envelope: Envelope) -> Accepted | Rejected:
    answers: list[Accepted | Rejected] = []
    deposit = Deposits(str(home), 1000).open(lambda: None)
    for chunk in chunks:
        deposit.write(chunk)
    deposit.commit(envelope, ORIGIN, answers.append)
    (answer,) = answers
    return answer


@pytest.mark.parametrize("length", [5, 100_000])
def test_the_envelope_arrives_whole(queue: Doorway, length: int) -> None:
    recipients = [
        Recipient(b"a@x", Notify.NEVER, b"rfc822;a@y"),
        Recipient("b@\xfc".encode(), Notify.SUCCESS | Notify.DELAY),
    ]
    envelope = Envelope(b"s@x", recipients, 2, True, b"HDRS", b"id+2B")
    assert put(queue.home, [b"x" * length, b"\r\n"], envelope) == Accepted(0, ORIGIN.pid)
    (taken,) = queue.taken()
    assert taken.envelope == envelope
    assert taken.origin.pid == 4711
    assert taken.content == b"x" * length + b"\r\n"
    assert bool(taken.spool) == (length > 1000)


def test_what_the_queue_refuses(queue: Doorway) -> None:
    answer = put(queue.home, [b"x\r\n"], Envelope(b"reject@x", [Recipient(b"a@b")]))
    assert answer == Rejected(0, 451, "4.3.1", "no room")
    assert queue.taken() == []


def test_a_queue_that_dies_has_perhaps_taken_it(queue: Doorway) -> None:
    answer = put(queue.home, [b"x\r\n"], Envelope(b"die@x", [Recipient(b"a@b")]))
    assert isinstance(answer, Rejected) and (answer.code, answer.status) == (451, "4.4.2")


def test_no_way_into_the_queue(tmp_path: Path) -> None:
    answer = put(tmp_path, [b"x" * 2000], Envelope(b"s@x", [Recipient(b"a@b")]))
    assert isinstance(answer, Rejected) and answer.code == 451


@pytest.mark.parametrize("length", [5, 5000])
def test_the_envelope_arrives_whole_with_the_daemon_down(tmp_path: Path, length: int) -> None:
    for name in ("control", "queue"):
        (tmp_path / name).mkdir()
    (tmp_path / "control" / "me").write_text("me.example\n")
    recipients = [
        Recipient(b"a@x.example", Notify.NEVER, b"rfc822;a@y"),
        Recipient(b"b@x.example", Notify.SUCCESS | Notify.DELAY, b"rfc822;b+2B@y"),
    ]
    envelope = Envelope(b"s@x.example", recipients, 2, True, b"HDRS", b"id+2B")
    answer = put(tmp_path, [b"x" * length, b"\r\n"], envelope)
    assert isinstance(answer, Accepted)
    direct = Direct(str(tmp_path))
    try:
        (row,) = direct.pages()
        local, remote = direct.recipients(row.id)
        assert (local, remote) == ([], recipients)
        meta = row.meta
        assert meta.origin.pid == ORIGIN.pid
        assert Envelope(row.sender, remote, meta.body, meta.smtputf8, meta.ret, meta.envid) == envelope
        assert direct.content(row) == b"x" * length + b"\r\n"
    finally:
        direct.close()


def test_what_is_aborted_leaves_nothing(queue: Doorway) -> None:
    deposit = Deposits(str(queue.home), 1000).open(lambda: None)
    deposit.write(b"x" * 5000)
    deposit.abort()
    deposit.abort()
    assert queue.taken() == []


def test_a_program_gets_lines_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "recorder"
    script.write_text(RECORDER.format(python=os.path.realpath("/proc/self/exe"), place=str(tmp_path), code=0))
    script.chmod(0o755)
    monkeypatch.setenv("QMAILQUEUE", str(script))
    chunks = [b"a\r", b"\nb\r\n", b"\r\r\n" * 1000, b"c"]
    answer = put(tmp_path, chunks, Envelope(b"s@x", [Recipient(b"a@b"), Recipient(b"c")]))
    assert isinstance(answer, Accepted) and answer.message > 1
    assert (tmp_path / "message").read_bytes() == b"a\nb\n" + b"\r\n" * 1000 + b"c"
    assert (tmp_path / "envelope").read_bytes() == b"Fs@x\0Ta@b\0Tc\0\0"


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (NotQueued(11, "too long (#5.1.3)"), Rejected(0, 554, "5.1.3", "too long")),
        (NotQueued(53, "disk full (#4.3.1)"), Rejected(0, 451, "4.3.1", "disk full")),
        (NotQueued(31, "no"), Rejected(0, 554, "5.3.0", "no")),
        (NotQueued(71, "no"), Rejected(0, 451, "4.3.0", "no")),
    ],
)
def test_what_a_client_is_told(fault: NotQueued, answer: Rejected) -> None:
    assert rejected(fault) == answer

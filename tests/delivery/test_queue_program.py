"""The client of qmail-queue: what it hands over, and how it reads exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.delivery.queue_program import inject
from ekiden.delivery.report import DEFERRED, FAILED, Trouble


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A qmail-queue in HOME/bin that keeps what it is given and does what ``behave`` says."""
    monkeypatch.delenv("QMAILQUEUE", raising=False)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "qmail-queue"
    script.write_text(f"#!/bin/sh\ncd {tmp_path}\n. ./behave\ncat > message\ncat <&1 > envelope\n. ./end\n")
    script.chmod(0o755)
    for name in ("behave", "end"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_message_and_envelope(queue: Path) -> None:
    process = inject(str(queue), b"a@b", [b"c@d", b"e@f"], [b"Delivered-To: x\n", b"body\n"])
    assert process > 1
    assert (queue / "message").read_bytes() == b"Delivered-To: x\nbody\n"
    assert (queue / "envelope").read_bytes() == b"Fa@b\0Tc@d\0Te@f\0\0"


def test_a_large_message(queue: Path) -> None:
    inject(str(queue), b"", [b"c@d"], [b"x" * 100_000] * 30)
    assert (queue / "message").stat().st_size == 3_000_000


def test_success_of_a_program_that_read_nothing_is_none(queue: Path) -> None:
    """What an interpreter says that could not read its script."""
    (queue / "bin" / "qmail-queue").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(Trouble, match=r"\(#4\.3\.0\)"):
        inject(str(queue), b"a@b", [b"c@d"], [b"body\n"])


def test_qmailqueue(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (queue / "bin" / "qmail-queue").rename(queue / "other")
    monkeypatch.setenv("QMAILQUEUE", str(queue / "other"))
    inject(str(queue), b"", [b"c@d"], [b"x\n"])
    assert (queue / "message").read_bytes() == b"x\n"


@pytest.mark.parametrize(
    ("behaviour", "verdict", "text"),
    [
        ("exit 11", FAILED, "too long (#5.1.3)"),
        ("exit 31", FAILED, "(#5.3.0)"),
        ("exit 35", FAILED, "permanent trouble (#5.3.0)"),
        ("exit 53", DEFERRED, "disk is full (#4.3.0)"),
        ("exit 72", DEFERRED, "(#4.4.1)"),
        ("exit 99", DEFERRED, "temporary trouble (#4.3.0)"),
        ("exit 115", FAILED, "(#5.1.3)"),
        ("kill -9 $$", DEFERRED, "crashed (#4.3.0)"),
        ("echo 'Dgo away (#5.7.1)' >&6; exit 82", FAILED, "go away (#5.7.1)"),
        ("echo 'Zcome back (#4.7.1)' >&6; exit 82", DEFERRED, "come back (#4.7.1)"),
        ("exit 82", DEFERRED, "temporary trouble (#4.3.0)"),
    ],
)
@pytest.mark.parametrize("when", ["behave", "end"])
def test_exit_codes(queue: Path, when: str, behaviour: str, verdict: int, text: str) -> None:
    (queue / when).write_text(behaviour + "\n")
    with pytest.raises(Trouble) as caught:
        inject(str(queue), b"a@b", [b"c@d"], [b"x" * 200_000])
    assert caught.value.verdict == verdict
    assert caught.value.text.endswith(text)


def test_success_without_having_read_everything_is_none(queue: Path) -> None:
    (queue / "behave").write_text("exit 0\n")
    with pytest.raises(Trouble, match="read error") as caught:
        inject(str(queue), b"a@b", [b"c@d"], [b"x" * 200_000])
    assert caught.value.verdict == DEFERRED


def test_no_program(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match=r"cannot be run \(#4.3.0\)"):
        inject(str(tmp_path), b"a@b", [b"c@d"], [b"x"])


def test_unreadable_content_is_not_queued(queue: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half a message"
        raise OSError(5, "Input/output error")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output"):
        inject(str(queue), b"a@b", [b"c@d"], chunks())
    assert (queue / "envelope").read_bytes() == b""
    assert len(os.listdir("/proc/self/fd")) == len(before)

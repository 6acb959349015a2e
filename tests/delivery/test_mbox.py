"""mbox deliveries: quoting, locking, and cutting back."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.delivery.mbox import LeftOver, Mbox, entry

FRONT = b"From a@b Mon Nov 23 12:56:33 2026\n"


def deliver(path: Path, content: bytes) -> None:
    mbox = Mbox(os.fsencode(path))
    assert mbox.lock()
    mbox.append(FRONT, [content])
    mbox.commit()
    mbox.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"\n"),
        (b"a\n", b"a\n\n"),
        (b"a", b"a\n\n"),
        (b"From x\n", b">From x\n\n"),
        (b"A: b\n\nFrom x\n>From y\n>>From z\n", b"A: b\n\n>From x\n>>From y\n>>>From z\n\n"),
        (b"From\n", b"From\n\n"),
        (b"From: x\n", b"From: x\n\n"),
        (b"from x\n", b"from x\n\n"),
        (b" From x\n", b" From x\n\n"),
        (b"> From x\n", b"> From x\n\n"),
        (b"a From x\n", b"a From x\n\n"),
        (b"From ", b">From \n\n"),
        (b">>Fro", b">>Fro\n\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_entries(content: bytes, expected: bytes, size: int) -> None:
    assert b"".join(entry(content[at : at + size] for at in range(0, len(content), size))) == expected


@pytest.mark.parametrize(
    ("before", "gap"),
    [
        (b"", b""),
        (b"x\n\n", b""),
        (b"x\n", b"\n"),
        (b"x", b"\n\n"),
        (b"x\n\0\0", b"\n\n"),
        (b"\n", b"\n"),
        (b"\n\n", b""),
    ],
)
def test_what_a_crash_left_does_not_swallow_the_next_message(tmp_path: Path, before: bytes, gap: bytes) -> None:
    path = tmp_path / "Mailbox"
    path.write_bytes(before)
    deliver(path, b"A: b\n\nbody\n")
    deliver(path, b"second\n")
    whole = FRONT + b"A: b\n\nbody\n\n" + FRONT + b"second\n\n"
    assert path.read_bytes() == before + gap + whole


pieces = st.lists(st.sampled_from([b"From ", b">", b"\n", b"Fro", b"m ", b"x", b" "]))


@given(pieces, st.integers(1, 8))
def test_a_reader_gets_back_what_was_stored(parts: list[bytes], size: int) -> None:
    content = b"".join(parts)
    stored = b"".join(entry(content[at : at + size] for at in range(0, len(content), size)))
    assert not re.search(rb"(?m)^From ", stored)
    restored = re.sub(rb"(?m)^>(>*From )", rb"\1", stored[:-1])
    assert restored == content if content.endswith(b"\n") or not content else restored == content + b"\n"


def test_appending(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox"
    deliver(path, b"one\n")
    deliver(path, b"two")
    assert path.read_bytes() == FRONT + b"one\n\n" + FRONT + b"two\n\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_several_under_one_lock(tmp_path: Path) -> None:
    mbox = Mbox(os.fsencode(tmp_path / "Mailbox"))
    assert mbox.lock()
    mbox.append(FRONT, [b"1\n"])
    mbox.append(FRONT, [b"2\n"])
    mbox.commit()
    mbox.close()
    assert (tmp_path / "Mailbox").read_bytes() == FRONT + b"1\n\n" + FRONT + b"2\n\n"


def test_a_locked_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox"
    with open(path, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        mbox = Mbox(os.fsencode(path))
        assert not mbox.lock()
        mbox.close()
    assert path.read_bytes() == b""


def test_a_file_that_was_replaced_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox"
    mbox = Mbox(os.fsencode(path))
    path.unlink()
    assert not mbox.lock()
    mbox.close()


def test_a_failed_append_is_cut_back_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox"
    deliver(path, b"before\n")
    mbox = Mbox(os.fsencode(path))
    assert mbox.lock()

    def chunks() -> Iterator[bytes]:
        yield b"half a mess"
        raise OSError(errno.ENOSPC, "")

    with pytest.raises(OSError):
        mbox.append(FRONT, chunks())
    mbox.append(FRONT, [b"after\n"])
    mbox.commit()
    mbox.close()
    assert path.read_bytes() == FRONT + b"before\n\n" + FRONT + b"after\n\n"


def test_a_failed_commit_is_cut_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "Mailbox"
    deliver(path, b"before\n")
    mbox = Mbox(os.fsencode(path))
    assert mbox.lock()
    mbox.append(FRONT, [b"lost\n"])

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError):
        mbox.commit()
    mbox.close()
    assert path.read_bytes() == FRONT + b"before\n\n"


def refuse(*_arguments: int) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_what_cannot_be_cut_back_does_not_swallow_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "Mailbox"
    deliver(path, b"before\n")
    mbox = Mbox(os.fsencode(path))
    assert mbox.lock()

    def chunks() -> Iterator[bytes]:
        yield b"half a mess"
        refuse()

    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(LeftOver) as failed:
        mbox.append(FRONT, chunks())
    assert failed.value.errno == errno.EDQUOT
    mbox.append(FRONT, [b"after\n"])
    mbox.append(FRONT, [b"last\n"])
    mbox.commit()
    mbox.close()
    left = FRONT + b"half a mess\n\n"
    assert path.read_bytes() == FRONT + b"before\n\n" + left + FRONT + b"after\n\n" + FRONT + b"last\n\n"


def test_nothing_is_left_of_what_was_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mbox = Mbox(os.fsencode(tmp_path / "Mailbox"))
    assert mbox.lock()
    monkeypatch.setattr(os, "ftruncate", refuse)
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError) as failed:
        mbox.append(FRONT, [b"x\n"])
    assert not isinstance(failed.value, LeftOver)
    mbox.close()


def test_devices_take_everything() -> None:
    deliver(Path("/dev/null"), b"x\n")

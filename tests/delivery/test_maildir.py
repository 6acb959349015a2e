"""Maildir deliveries: names, what is left after errors, and what is cleaned away."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.delivery import maildir
from ekiden.delivery.maildir import STALE, Draft, clean, settle, unique_name


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for name in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    return tmp_path / "Maildir"


def contents(box: Path, name: str = "new") -> list[bytes]:
    return sorted(path.read_bytes() for path in (box / name).iterdir())


def test_a_message_appears_in_new_when_it_is_settled(box: Path) -> None:
    draft = Draft(os.fsencode(box), [b"a", b"b"])
    assert contents(box) == []
    assert contents(box, "tmp") == [b"ab"]
    settle([draft])
    assert draft.error is None
    assert contents(box) == [b"ab"]
    assert contents(box, "tmp") == []
    assert (box / "new").joinpath(os.fsdecode(os.path.basename(draft.final))).stat().st_mode & 0o777 == 0o600


def test_a_batch_over_several_maildirs(box: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name in ("tmp", "new", "cur"):
        (other / name).mkdir(parents=True)
    drafts = [Draft(os.fsencode(place), [b"%d" % number]) for number in range(5) for place in (box, other)]
    settle(drafts)
    assert contents(box) == contents(other) == [b"0", b"1", b"2", b"3", b"4"]


def test_files_and_directories_are_synchronised(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    drafts = [Draft(os.fsencode(box), [b"x"]) for _ in range(3)]
    settle(drafts)
    assert synced == [*(os.fsdecode(draft.temporary) for draft in drafts), str(box / "new")]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_failed_draft_leaves_nothing_and_others_go_on(
    box: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [Draft(os.fsencode(box), [b"%d" % number]) for number in range(3)]
    real, calls = getattr(os, failing), []

    def fail_once(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.EIO, "")
        real(*arguments)

    monkeypatch.setattr(os, failing, fail_once)
    settle(drafts)
    assert [draft.error is None for draft in drafts] == [True, False, True]
    assert contents(box) == [b"0", b"2"]
    assert contents(box, "tmp") == []


def test_a_directory_that_cannot_be_synchronised_fails_all(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = [Draft(os.fsencode(box), [b"x"]) for _ in range(2)]

    def fail(path: bytes) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(maildir, "sync_directory", fail)
    settle(drafts)
    assert all(draft.error for draft in drafts)
    assert contents(box) == []


def test_a_write_error_leaves_nothing(box: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half a mess"
        raise OSError(errno.ENOSPC, "")

    with pytest.raises(OSError):
        Draft(os.fsencode(box), chunks())
    assert contents(box, "tmp") == []


def test_names() -> None:
    names = {unique_name() for _ in range(20_000)}
    assert len(names) == 20_000
    for name in list(names)[:10]:
        assert re.fullmatch(rb"\d+\.M\d{1,6}P\d+Q\d+R[0-9a-f]{8}\.[^/:]+", name)


def test_names_differ_though_clock_process_and_count_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(maildir, "_numbers", iter([5] * 100))
    assert len({unique_name() for _ in range(100)}) == 100


def test_cleaning(box: Path) -> None:
    now = time.time()
    for name, age in (("old", STALE + 60), ("young", STALE - 60), (".hidden", STALE * 2)):
        path = box / "tmp" / name
        path.write_text("")
        os.utime(path, (now - age, now - age))
    assert clean(os.fsencode(box), now) == 1
    assert {path.name for path in (box / "tmp").iterdir()} == {"young", ".hidden"}
    assert clean(b"/nowhere", now) == 0

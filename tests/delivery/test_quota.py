"""Maildir++ quotas: the counts in maildirsize, also of concurrent deliveries, and what is made of a damaged file."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiden.delivery import quota
from ekiden.delivery.content import WireContent
from ekiden.delivery.letter import Letter
from ekiden.delivery.local_limits import LocalLimits
from ekiden.delivery.mailboxes import to_maildirs
from ekiden.delivery.quota import Counts, define, parse
from ekiden.delivery.report import DEFERRED, FAILED, Trouble

FRONT = len("Return-Path: <a@b.org>\nDelivered-To: joe@x.org\n")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return make_maildir(tmp_path / "Maildir")


def make_maildir(path: Path) -> Path:
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True)
    return path


def letter(octets: int) -> Letter:
    """A letter that takes so many octets in a Maildir."""
    return Letter(
        b"joe", b"/", b"joe", b"", b"", b"x.org", b"a@b.org", b"", WireContent(b"x" * (octets - FRONT)), 0.0
    )


def deliver(box: Path, *sizes: int, limits: LocalLimits) -> list[Trouble | None]:
    return to_maildirs([(os.fsencode(box) + b"/", letter(size)) for size in sizes], limits)


def limit(octets: int = 0, messages: int = 0, bounce: bool = True) -> LocalLimits:
    return LocalLimits(0, define(octets, messages), bounce)


def maildirsize(box: Path) -> list[str]:
    return (box / "maildirsize").read_text().splitlines()


def counted(box: Path) -> tuple[int, int]:
    lines = [line.split() for line in maildirsize(box)[1:]]
    return sum(int(octets) for octets, _ in lines), sum(int(count) for _, count in lines)


def stored(box: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in (box / "new").iterdir()]
    return sum(sizes), len(sizes)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (b"1000S,10C", (1000, 10)),
        (b"10C,1000S", (1000, 10)),
        (b"10C", (0, 10)),
        (b"1000S", (1000, 0)),
    ],
)
def test_definitions(text: bytes, limits: tuple[int, int]) -> None:
    found = parse(text)
    assert (found.octets, found.messages) == limits


@pytest.mark.parametrize("text", [b"", b"10", b"S", b"10X", b"-1S", b"10S,", b"10S;1C", b"1" * 30 + b"S"])
def test_no_definitions(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_without_a_quota_nothing_is_written(box: Path) -> None:
    assert deliver(box, 500, limits=limit()) == [None]
    assert not (box / "maildirsize").exists()


def test_deliveries_are_counted(box: Path) -> None:
    assert deliver(box, 500, 300, limits=limit(10_000, 10)) == [None, None]
    assert deliver(box, 200, limits=limit(10_000, 10)) == [None]
    assert maildirsize(box) == ["10000S,10C", "0 0", "500 1", "300 1", "200 1"]
    assert stored(box) == counted(box) == (1000, 3)
    assert sorted(path.name.partition(",S=")[2] for path in (box / "new").iterdir()) == ["200", "300", "500"]


@pytest.mark.parametrize(("bounce", "verdict", "status"), [(True, FAILED, "5.2.2"), (False, DEFERRED, "4.2.2")])
def test_over_quota(box: Path, bounce: bool, verdict: int, status: str) -> None:
    trouble, fits = deliver(box, 1001, 1000, limits=limit(1000, bounce=bounce))
    assert trouble is not None and fits is None
    assert (trouble.verdict, trouble.text) == (verdict, f"The Maildir {box}/ is over its quota. (#{status})")
    assert list((box / "tmp").iterdir()) == []
    assert stored(box) == counted(box) == (1000, 1)


def test_one_batch_cannot_exceed_the_quota(box: Path) -> None:
    troubles = deliver(box, *[100] * 8, limits=limit(messages=5))
    assert [trouble is None for trouble in troubles] == [True] * 5 + [False] * 3
    assert counted(box) == (500, 5)


def test_the_maildirs_own_definition_counts_where_no_setting_does(box: Path) -> None:
    (box / "maildirsize").write_text("600S\n500 1\n")
    (box / "cur" / "old,S=500:2,").touch()
    (trouble,) = deliver(box, 101, limits=limit())
    assert trouble is not None and trouble.verdict == FAILED
    assert deliver(box, 100, limits=limit()) == [None]
    assert maildirsize(box)[0] == "600S"


def test_another_setting_makes_the_file_again(box: Path) -> None:
    assert deliver(box, 100, limits=limit(1000)) == [None]
    assert deliver(box, 100, limits=limit(5000)) == [None]
    assert maildirsize(box) == ["5000S", "100 1", "100 1"]


DAMAGE = [
    b"",
    b"\n",
    b"1000S",
    b"1000S\n5",
    b"1000S\n5 5\nx y\n",
    b"1000S\n5 5\n5",
    b"1000S\n-5 1\n",
    b"1000S\n1 -1\n",
    b"999S\n1 1\n",
    b"\0" * 100,
    b"1000S\n" + b"0 0\n" * 2000,
    b"1000S\n99999999999999999999 1\n",
]


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_file_is_made_again(box: Path, text: bytes) -> None:
    (box / "cur" / "one:2,S").write_bytes(b"x" * 300)
    (box / "new" / "two,S=200").write_bytes(b"")
    (box / "maildirsize").write_bytes(text)
    assert deliver(box, 100, limits=limit(1000)) == [None]
    assert maildirsize(box) == ["1000S", "500 2", "100 1"]


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_the_file_deliveries_go_on(box: Path, text: bytes) -> None:
    (box / "maildirsize").write_bytes(text)
    assert deliver(box, 100, limits=limit(10_000_000)) == [None]
    assert maildirsize(box)[0] == "10000000S"


def test_folders_count_and_trash_does_not(box: Path) -> None:
    for name in (".Sent", ".Trash"):
        make_maildir(box / name)
        (box / name / "maildirfolder").touch()
        (box / name / "cur" / "message").write_bytes(b"x" * 100)
    (box / "cur" / "gone:2,ST").write_bytes(b"x" * 1000)
    (box / "cur" / "kept:2,S").write_bytes(b"x" * 10)
    assert deliver(box / ".Sent", 100, limits=limit(5000)) == [None]
    assert maildirsize(box) == ["5000S", "110 2", "100 1"]
    assert not (box / ".Sent" / "maildirsize").exists()


def test_a_maildir_and_its_folder_in_one_batch(box: Path) -> None:
    make_maildir(box / ".Sent")
    (box / ".Sent" / "maildirfolder").touch()
    paths = [os.fsencode(box) + b"/", os.fsencode(box / ".Sent") + b"/", os.fsencode(box) + b"//"]
    assert to_maildirs([(path, letter(100)) for path in paths], limit(messages=3)) == [None] * 3
    assert counted(box) == (300, 3)


def test_a_full_maildir_is_counted_again_when_messages_were_removed(box: Path) -> None:
    """A reader that knows nothing of maildirsize removes messages without saying so."""
    assert deliver(box, 500, limits=limit(600)) == [None]
    assert deliver(box, 100, limits=limit(600)) == [None]
    (removed,) = (path for path in (box / "new").iterdir() if path.stat().st_size == 500)
    removed.unlink()
    assert deliver(box, 450, limits=limit(600)) == [None]
    assert maildirsize(box) == ["600S", "100 1", "450 1"]


def test_a_full_maildir_is_not_counted_with_every_message(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert deliver(box, 500, limits=limit(600)) == [None]
    assert deliver(box, 500, limits=limit(600)) != [None]

    def fail(maildir: bytes) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr(quota, "_sizes", fail)
    assert deliver(box, 500, limits=limit(600)) != [None]
    for other in (time.time() - 3600, time.time() + 3600):  # later than now: the clock has been set back
        os.utime(box / "maildirsize", (other, other))
        with pytest.raises(AssertionError):
            deliver(box, 500, limits=limit(600))


def test_a_locked_maildir_defers(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "LOCK_SECONDS", 0.05)
    descriptor = os.open(box, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (trouble,) = deliver(box, 100, limits=limit(600))
    assert trouble is not None and trouble.verdict == DEFERRED and "stayed locked" in trouble.text
    assert list((box / "tmp").iterdir()) == []
    os.close(descriptor)
    assert deliver(box, 100, limits=limit(600)) == [None]


def test_a_directory_in_the_files_place_defers(box: Path) -> None:
    (box / "maildirsize").mkdir()
    with pytest.raises(OSError):
        Counts(os.fsencode(box), b"600S")
    (trouble,) = deliver(box, 100, limits=limit(600))
    assert trouble is not None and trouble.verdict == DEFERRED


DELIVERER = """
import sys
from pathlib import Path
from ekiden.delivery import quota
from tests.delivery.test_quota import deliver, limit
quota.LOCK_SECONDS = 60.0
done = 0
for number in range(int(sys.argv[2])):
    done += deliver(Path(sys.argv[1]), 100 + number, limits=limit(messages=int(sys.argv[3]))) == [None]
print(done)
"""


@pytest.mark.parametrize("messages", [1000, 25])
def test_concurrent_deliveries_are_counted_right(box: Path, messages: int) -> None:
    """Four processes at once, with the file lost now and then: neither a message nor room is counted twice."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", DELIVERER, str(box), "15", str(messages)]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) for _ in range(4)]
    while any(process.poll() is None for process in running):
        (box / "maildirsize").unlink(missing_ok=True)
        time.sleep(0.02)
    done = sum(int(process.communicate()[0]) for process in running)
    assert done == stored(box)[1] == min(60, messages)
    assert deliver(box, 100, limits=limit(messages=done + 1)) == [None]
    assert counted(box) == stored(box)

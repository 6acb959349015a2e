"""qmail-local and real kernels: what is synchronised before success is told, and what a full disk leaves."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND
from tests.peers.processes import program, run

MESSAGE = b"Subject: one\n\nbody\n"


def deliver(home: Path, mailbox: str, message: bytes, *front: str) -> subprocess.CompletedProcess[bytes]:
    """Run qmail-local behind the command ``front``; the user's home is ``home``."""
    arguments = ["qmail-local", "joe", str(home), "joe", "", "", "x.example", "s@x.example", mailbox]
    given = home.parent / "message"
    given.write_bytes(message)
    with open(given, "rb") as file:
        return subprocess.run([*front, COMMAND, *arguments], stdin=file, capture_output=True, timeout=60)


@pytest.fixture
def user(tmp_path: Path) -> Path:
    home = tmp_path / "joe"
    for part in ("new", "cur", "tmp"):
        (home / "Maildir" / part).mkdir(parents=True)
    return home


def traced(user: Path, mailbox: str) -> list[str]:
    """The system calls that concern the mailbox or tell of success, in order, descriptors as their paths."""
    log = user.parent / "trace"
    calls = "trace=openat,write,fsync,fdatasync,rename,link,unlink"
    done = deliver(user, mailbox, MESSAGE, program("strace"), "-f", "-y", "-e", calls, "-o", str(log))
    assert (done.returncode, done.stdout) == (0, b"did 1+0+0\n")
    lines = [re.sub(r"^\d+ +", "", line) for line in log.read_text().splitlines()]
    return [line for line in lines if (str(user) in line and not line.startswith("openat")) or "did 1+0+0" in line]


def steps(calls: list[str], patterns: list[str]) -> None:
    """Assert that calls match the patterns one after another, others between them."""
    rest = iter(calls)
    for pattern in patterns:
        assert any(re.search(pattern, call) for call in rest), (pattern, calls)


def test_a_maildir_is_synchronised_before_success_is_told(user: Path) -> None:
    calls = traced(user, "./Maildir/")
    steps(
        calls,
        [
            r"^write\(\d+<\S*/Maildir/tmp/",
            r"^fsync\(\d+<\S*/Maildir/tmp/\S+>\) += 0",
            r"^rename\(\"\S*/tmp/\S+\", \"\S*/new/\S+\"\) += 0",
            r"^fsync\(\d+<\S*/Maildir/new>\) += 0",
            r"^write\(1<.*did 1\+0\+0",
        ],
    )


def test_an_mbox_is_synchronised_before_success_is_told(user: Path) -> None:
    calls = traced(user, "./Mailbox")
    steps(
        calls,
        [
            r"^write\(\d+<\S*/Mailbox>",
            r"^fsync\(\d+<\S*/Mailbox>\) += 0",
            # The file is new, so that its name has to be on disk as well.
            r"^fsync\(\d+<\S*/joe>\) += 0",
            r"^unlink\(\"\S*/Mailbox\.lock\"\) += 0",
            r"^write\(1<.*did 1\+0\+0",
        ],
    )


@pytest.fixture
def small(user: Path) -> Iterator[Path]:
    """The user's home on a file system of 128 KiB."""
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=755", "tmpfs", user], check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stdout.strip()}")
    try:
        for part in ("new", "cur", "tmp"):
            (user / "Maildir" / part).mkdir(parents=True)
        yield user
    finally:
        run(["umount", "-l", user])


def test_a_full_disk_leaves_an_mbox_as_it_was(small: Path) -> None:
    assert deliver(small, "./Mailbox", MESSAGE).returncode == 0
    before = (small / "Mailbox").read_bytes()
    done = deliver(small, "./Mailbox", b"Subject: large\n\n" + b"x" * 200_000 + b"\n")
    assert (done.returncode, done.stdout) == (111, b"")
    assert b"No space left on device" in done.stderr
    assert (small / "Mailbox").read_bytes() == before
    assert deliver(small, "./Mailbox", MESSAGE).returncode == 0
    assert (small / "Mailbox").read_bytes().count(b"Subject: one") == 2
    assert sorted(path.name for path in small.iterdir()) == ["Mailbox", "Maildir"]


def test_a_full_disk_leaves_nothing_in_a_maildir(small: Path) -> None:
    done = deliver(small, "./Maildir/", b"Subject: large\n\n" + b"x" * 200_000 + b"\n")
    assert (done.returncode, done.stdout) == (111, b"")
    assert b"No space left on device" in done.stderr
    assert [path for path in (small / "Maildir").rglob("*") if path.is_file()] == []
    assert deliver(small, "./Maildir/", MESSAGE).returncode == 0
    assert len(list((small / "Maildir" / "new").iterdir())) == 1
